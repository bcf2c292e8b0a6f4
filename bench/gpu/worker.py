#!/usr/bin/env python3
"""The benchmark's rows in one process: ours and its peers interleaved, CUDA graphs, cold L2. Prints a JSON object a line,
as each row ends; run.py starts it, and starts it again behind a row that a kernel did not survive."""
import argparse
import json
import math
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import graphs  # noqa: E402
import kernels  # noqa: E402
import peers  # noqa: E402

UNUSABLE = 3  # exit code: this process's CUDA context is lost, the rows behind want another


class Device:
    """The GPU, or where the emulator's memory is."""

    def __init__(self, torch, target):
        self.torch, self.target, self.emulated = torch, target, target.startswith("cuda-emu")
        self.name = "cpu" if self.emulated else "cuda"
        if not self.emulated:
            torch.cuda.init()
            torch.zeros(1, device="cuda")  # makes the context
            self.flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")  # more than any L2

    def wait(self):
        if not self.emulated:
            self.torch.cuda.synchronize()

    def capture(self, run):
        """A CUDA graph of one run; proves besides that it can be captured."""
        if self.emulated:
            return run
        torch = self.torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph.replay

    def time(self, run):
        """Milliseconds of one run after the caches were overwritten."""
        if self.emulated:
            began = time.perf_counter()
            run()
            return 1e3 * (time.perf_counter() - began)
        begin, end = self.torch.cuda.Event(True), self.torch.cuda.Event(True)
        self.flush.zero_()
        begin.record()
        run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    def copy_bandwidth(self):
        """GB/s of a device-to-device copy, bytes read and written."""
        a = self.torch.empty((1 << 20) if self.emulated else (1 << 30), dtype=self.torch.uint8, device=self.name)
        b = self.torch.empty_like(a)
        return max(2 * a.numel() / self.time(lambda: b.copy_(a)) * 1e-6 for _ in range(10))


def reference(torch, shape, scores, q, k, v, extra, tables, heads=2, rows=256):
    """f64 attention of the first heads and the last rows of batch 0: [heads, rows, Dv], and the first of those rows."""
    kind, group = graphs.KINDS[scores], q.shape[1] // k.shape[1]
    keep, modify = graphs.masks_and_scores(scores, tables, torch)
    start = max(0, q.shape[2] - rows)
    i = torch.arange(start, q.shape[2], device=q.device)[:, None]
    j = torch.arange(k.shape[2], device=q.device)[None, :]
    out = []
    for h in range(heads):
        s = q[0, h, start:].double() @ k[0, h // group].double().T * (kind.scale or 1 / math.sqrt(q.shape[-1]))
        if modify:
            s = modify(s, 0, h, i, j)
        if keep:
            s = s.masked_fill(~keep(0, h, i, j), -math.inf)
        if kind.sink is not None:
            sink = kind.sink(extra)
            s = torch.nn.functional.pad(s, (0, 1), value=float(sink[h] if torch.is_tensor(sink) else sink))
        weights = torch.sigmoid(s) if kind.sigmoid else torch.softmax(s, -1)
        out.append(weights[:, :k.shape[2]] @ v[0, h // group].double())
    return torch.stack(out), start


def run_row(device, library, row, rounds):
    """The row's figures. `failed` is there when ours did not run, fell back to a slower template or computed wrongly."""
    torch, shape, scores = device.torch, row["shape"], row["scores"]
    b, hq, hkv, sq, sk, dqk, dv = shape
    began, kind = time.perf_counter(), graphs.KINDS[scores]
    torch.manual_seed(0)
    make = lambda h, s, d: torch.randn(b, h, s, d, device=device.name).to(torch.bfloat16)
    q, k, v = make(hq, sq, dqk), make(hkv, sk, dqk), make(hkv, sk, dv)
    o = torch.full((b, hq, sq, dv), math.nan, device=device.name, dtype=torch.bfloat16)
    extra = kind.inputs(shape, torch, device.name)
    tables = kind.tables(extra, shape, torch)
    row = dict(row, impl={}, failed=[])
    expected, start = reference(torch, shape, scores, q, k, v, extra, tables)
    error_of = lambda result: (result[0, :2, start:].double() - expected).abs().max().item()
    runs = {}
    try:
        ours = kernels.Kernel(library, torch, graphs.attention(shape, scores), device.target)
        run = ours.bind([q, k, v, *extra], [o])
        taken = run(report=True)
        device.wait()
        row["taken"] = [{**{key: step[key] for key in ("template", "schedule", "passed_over", "fused")},
                         "tuned": next((why for why in step["because"] if "tuning database" in why), None)}
                        for step in taken]
        row["load_ms"], row["kernels"] = ours.load_ms, ours.description["kernels"]
        row["max_error"] = error_of(o)
        wanted = graphs.expected_template(shape, ours.description["target"])
        for step in row["taken"]:
            if step["fused"] and step["template"] != wanted:
                why = "; ".join(step["passed_over"]) or "it was not among the choices"
                row["failed"].append(f"{step['template']} ran, and {wanted} was expected ({why})")
        if not torch.isfinite(o.float()).all().item():
            row["failed"].append("its output has NaN or infinity")
        # bf16 rounds weights and output to 2^-9 of them.
        bound = 2.0 ** -7 * expected.abs().max().item()
        if not row["max_error"] <= bound:
            row["failed"].append(f"its largest error is {row['max_error']:.2e}, and {bound:.2e} is the bound")
        runs["ours"] = run
    except Exception as problem:  # must not cost the peers, unless the context is lost
        row["failed"].append(str(problem)[:400])
        device.wait()
    if device.emulated:
        absent = {name: "the emulator has no peers" for name in peers.NAMES}
    else:
        found, absent = peers.find(torch, row, q, k, v, extra)
        runs.update(found)
    for name, why in absent.items():
        row["impl"][name] = {"skipped": why}
    ready = {}
    for name, run in runs.items():
        try:
            if name != "ours":
                row["impl"].setdefault(name, {})["max_error"] = error_of(run())
            ready[name] = device.capture(run)
        except Exception as problem:
            row["impl"][name] = {"skipped": f"failed: {problem}"[:400]}
            if name == "ours":
                row["failed"].append(f"it cannot be captured: {problem}"[:400])
            device.wait()
    times = {name: [] for name in ready}
    order = list(ready)
    for i in range(rounds + 3):
        for name in order[i % len(order):] + order[:i % len(order)] if order else []:
            ms = device.time(ready[name])
            if i >= 3:
                times[name].append(ms)
    flops = 2 * graphs.kept_scores(shape, scores, tables, torch, device.name) * (dqk + dv)
    read = 2 * b * hkv * sk * (dqk + dv)
    for name, ms in times.items():
        ms.sort()
        median = statistics.median(ms)
        row["impl"].setdefault(name, {}).update(
            {"ms": median, "p10": ms[len(ms) // 10], "p90": ms[-1 - len(ms) // 10], "tflops": flops / median * 1e-9,
             "gb_per_s": read / median * 1e-6})
    row["seconds"] = time.perf_counter() - began
    if not row["failed"]:
        del row["failed"]
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--target", default="cuda")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    tell = lambda what: print(json.dumps(what), flush=True)
    try:
        import torch
    except ImportError as problem:
        tell({"skipped": f"{sys.executable} has no PyTorch, and 2.5 or newer is needed: {problem}"})
        return 0
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 5):
        tell({"skipped": f"PyTorch {torch.__version__} of {sys.executable} is older than 2.5"})
        return 0
    if not options.target.startswith("cuda-emu") and not torch.cuda.is_available():
        tell({"skipped": f"PyTorch {torch.__version__} of {sys.executable} sees no GPU (is it built for the CPU alone?)"})
        return 0
    device = Device(torch, options.target)
    library = kernels.load_library(pathlib.Path(options.build) / "libtilewright_gpu.so")
    tell({"torch": torch.__version__, "copy_gb_per_s": device.copy_bandwidth()})
    for line in sys.stdin:  # a row a line
        row = json.loads(line)
        try:
            tell(run_row(device, library, row, options.rounds))
        except Exception as problem:
            tell(dict(row, failed=[f"{type(problem).__name__}: {problem}"[:400]]))
        try:
            device.wait()
            if not device.emulated:
                torch.cuda.empty_cache()
        except Exception:
            return UNUSABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
