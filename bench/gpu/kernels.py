"""Our kernels from Python: graphs as text through c_api.h, tensors as raw pointers, the current stream."""
import ctypes
import json
import time


class Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("shape", ctypes.c_int64 * 8), ("strides", ctypes.c_int64 * 8),
                ("rank", ctypes.c_int32)]


def describe_tensor(t):
    return Tensor(t.data_ptr(), (ctypes.c_int64 * 8)(*t.shape), (ctypes.c_int64 * 8)(*t.stride()), t.dim())


def load_library(path):
    library = ctypes.CDLL(str(path))
    text, number, pointer = ctypes.c_char_p, ctypes.c_int64, ctypes.c_void_p
    for name, result, arguments in (
            ("load", pointer, [text, text, text, number]),
            ("free", None, [pointer]),
            ("describe", text, [pointer]),
            ("workspace", number, [pointer, pointer, text, number]),
            ("run", ctypes.c_int32, [pointer, pointer, pointer, pointer, number, pointer, text, number, text, number])):
        function = getattr(library, "tilewright_" + name)
        function.restype, function.argtypes = result, arguments
    return library


class Kernel:
    """A graph compiled for the current device, or for the emulator."""

    def __init__(self, library, torch, text, target):
        self.library, self.torch, self.emulated = library, torch, target.startswith("cuda-emu")
        self.error = ctypes.create_string_buffer(2000)
        began = time.perf_counter()
        self.kernel = library.tilewright_load(text.encode(), target.encode(), self.error, len(self.error))
        self.load_ms = 1e3 * (time.perf_counter() - began)
        if not self.kernel:
            self.complain()
        self.description = json.loads(library.tilewright_describe(self.kernel).decode())

    def __del__(self):
        if getattr(self, "kernel", None):
            self.library.tilewright_free(self.kernel)

    def complain(self):
        raise RuntimeError(self.error.value.decode())

    def bind(self, inputs, outputs):
        """A function that enqueues one run on the current stream. Called with report=True it says what was launched:
        per step its template, schedule and why not the choices before it."""
        ins = (Tensor * len(inputs))(*[describe_tensor(t) for t in inputs])
        outs = (Tensor * len(outputs))(*[describe_tensor(t) for t in outputs])
        size = self.library.tilewright_workspace(self.kernel, ins, self.error, len(self.error))
        if size < 0:
            self.complain()
        workspace = self.torch.empty(max(size, 1) + 256, dtype=self.torch.uint8, device=inputs[0].device)
        place = (workspace.data_ptr() + 255) // 256 * 256
        report_text = ctypes.create_string_buffer(1 << 16)

        def go(report=False):
            stream = 0 if self.emulated else self.torch.cuda.current_stream().cuda_stream
            if not self.library.tilewright_run(self.kernel, ins, outs, place, size, stream,
                                               report_text if report else None, len(report_text) if report else 0,
                                               self.error, len(self.error)):
                self.complain()
            return json.loads(report_text.value.decode()) if report else None

        go.keep = (workspace, inputs, outputs, self)
        return go
