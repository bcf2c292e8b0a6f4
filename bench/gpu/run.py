#!/usr/bin/env python3
"""Everything that wants a GPU, in one process tree; writes bench/results/<device>.json. See README.md."""
import argparse
import concurrent.futures
import ctypes
import json
import math
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import graphs  # noqa: E402

START = time.time()


def say(text):
    print(f"[{time.time() - START:6.1f} s] {text}", flush=True)


def command(cli, *arguments, timeout=300):
    """Exit code, stdout and the last words of stderr."""
    try:
        done = subprocess.run([str(cli), *arguments], capture_output=True, text=True, timeout=timeout, cwd=ROOT)
        return done.returncode, done.stdout, done.stderr.strip()[-500:]
    except subprocess.TimeoutExpired:
        return 124, "", f"ran longer than {timeout} s"


# ---- 1 to 3: conformance, numerics, sanitizer ------------------------------------------------------------------------


def conformance(cli):
    code, out, why = command(cli, "devices", "--conformance", "--json")
    try:
        result = json.loads(out)
    except json.JSONDecodeError:
        result = {"wrong": 1, "why": why or out[-500:], "cases": []}
    for case in result["cases"]:
        if not case["pass"]:
            say(f"  WRONG {case['name']}: {case['why']}")
    say(f"conformance: {len(result['cases'])} cases, {result.get('wrong', 1)} wrong (exit code {code})")
    return result


SIZES = [{"B": 2, "Sq": 67, "Sk": 129, "S": 67}, {"B": 1, "Sq": 1, "Sk": 300, "S": 1}, {"B": 1, "Sq": 640, "Sk": 640, "S": 640}]


HEADS = [(8, 2, 64, 64), (4, 4, 128, 128), (4, 2, 256, 256), (8, 8, 192, 128)]


def numerics_cases(folder, quick):
    """(file, dims): variants and models as they are, in f32, and the benchmark's scores in bf16, which the templates on
    tensor cores take. Dims that a graph lacks are left out, dims that it has besides get their default."""
    files = sorted((ROOT / "examples/variants").glob("*.attn")) + sorted((ROOT / "examples/models").glob("*.attn"))
    for hq, hkv, dqk, dv in HEADS[:2] if quick else HEADS:
        for scores in ("full", "causal", "alibi", "window", "softcap", "documents"):
            file = pathlib.Path(folder) / f"{scores}_{hq}_{hkv}_{dqk}_{dv}.attn"
            file.write_text(graphs.attention((1, hq, hkv, 1, 1, dqk, dv), scores))
            files.append(file)
    for file in files:
        text = file.read_text()
        for sizes in SIZES[:1] if quick else SIZES:
            yield file, {name: size for name, size in sizes.items() if re.search(rf"[\[,+\-]{name}[\],+\-]", text)}


def numerics(cli, quick, target="cuda"):
    def check(case):
        file, dims = case
        code, out, why = command(cli, "run", str(file), "--target", target, "--verify", "--json",
                                 *[f"--dim={name}={size}" for name, size in dims.items()])
        templates = []
        try:
            report = json.loads(out)
            templates = [step["template"] for step in report.get("steps", [])]
            why = why or "; ".join(a["failure"] for a in report.get("accuracy", []) if a["failure"])
        except json.JSONDecodeError:
            pass
        return {"file": file.name, "dims": dims, "exit_code": code, "templates": templates, "why": why}

    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(check, numerics_cases(folder, quick)))
    for row in rows:
        if row["exit_code"] not in (0, 2):
            say(f"  WRONG {row['file']} {row['dims']} ({', '.join(row['templates'])}): {row['why']}")
    wrong = sum(row["exit_code"] not in (0, 2) for row in rows)
    refused = [row for row in rows if row["exit_code"] == 2]
    say(f"numerics: {len(rows)} runs, {wrong} wrong, {len(refused)} refused")
    for row in refused:
        say(f"  refused {row['file']} {row['dims']}: {row['why'][:160]}")
    return rows


def sanitizer(cli):
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not os.path.exists(tool):
        say("compute-sanitizer is not here: skipped")
        return {"skipped": "compute-sanitizer is not installed"}
    results = {}
    for check in ("memcheck", "racecheck", "synccheck"):
        code, out, why = command(tool, "--tool", check, "--error-exitcode", "9", str(cli), "run",
                                 "examples/variants/02_causal.attn", "--target", "cuda", "--dim=B=1", "--dim=Sq=200",
                                 "--dim=Sk=200", timeout=120)
        results[check] = {"exit_code": code, "words": (out[-300:] + why)[-500:] if code else ""}
        say(f"compute-sanitizer {check}: exit code {code}")
    return results


# ---- 4: the benchmark --------------------------------------------------------------------------------------------------


class Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("shape", ctypes.c_int64 * 8), ("strides", ctypes.c_int64 * 8),
                ("rank", ctypes.c_int32)]


def describe_tensor(t):
    return Tensor(t.data_ptr(), (ctypes.c_int64 * 8)(*t.shape), (ctypes.c_int64 * 8)(*t.stride()), t.dim())


class Ours:
    """A graph compiled for the current device."""

    def __init__(self, library, torch, text):
        self.library, self.torch = library, torch
        self.error = ctypes.create_string_buffer(2000)
        began = time.perf_counter()
        self.kernel = library.tilewright_load(text.encode(), self.error, len(self.error))
        self.load_ms = 1e3 * (time.perf_counter() - began)
        if not self.kernel:
            raise RuntimeError(self.error.value.decode())
        self.description = json.loads(library.tilewright_describe(self.kernel).decode())

    def bind(self, inputs, outputs):
        """A function without arguments that enqueues one run on the current stream."""
        ins = (Tensor * len(inputs))(*[describe_tensor(t) for t in inputs])
        outs = (Tensor * len(outputs))(*[describe_tensor(t) for t in outputs])
        size = self.library.tilewright_workspace(self.kernel, ins, self.error, len(self.error))
        if size < 0:
            raise RuntimeError(self.error.value.decode())
        workspace = self.torch.empty(max(size, 1) + 256, dtype=self.torch.uint8, device="cuda")
        place = (workspace.data_ptr() + 255) // 256 * 256

        def go():
            stream = self.torch.cuda.current_stream().cuda_stream
            if not self.library.tilewright_run(self.kernel, ins, outs, place, size, stream, self.error, len(self.error)):
                raise RuntimeError(self.error.value.decode())

        go.keep = (workspace, inputs, outputs)
        return go


def load_library(path):
    library = ctypes.CDLL(str(path))
    library.tilewright_load.restype = ctypes.c_void_p
    library.tilewright_load.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int64]
    library.tilewright_describe.restype = ctypes.c_char_p
    library.tilewright_describe.argtypes = [ctypes.c_void_p]
    library.tilewright_workspace.restype = ctypes.c_int64
    library.tilewright_workspace.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64]
    library.tilewright_run.restype = ctypes.c_int32
    library.tilewright_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
                                       ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64]
    return library


def capture(torch, run):
    """A CUDA graph of one run; proves besides that it can be captured."""
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


def reference(torch, q, k, v, scores, extra, heads=2, rows=256):
    """f64 attention of the first heads and the last rows of batch 0."""
    group = q.shape[1] // k.shape[1]
    start = max(0, q.shape[2] - rows)
    out = []
    for h in range(heads):
        s = q[0, h, start:].double() @ k[0, h // group].double().T / math.sqrt(q.shape[-1])
        i = (torch.arange(start, q.shape[2], device="cuda") + k.shape[2] - q.shape[2])[:, None]
        j = torch.arange(k.shape[2], device="cuda")[None, :]
        modify, keep = graphs.modified(scores, extra, torch), graphs.kept(scores, extra)
        if modify:
            s = modify(s, 0, h, i, j)
        if keep:
            s = s.masked_fill(~keep(0, h, i, j), -math.inf)
        out.append(torch.softmax(s, -1) @ v[0, h // group].double())
    return start, torch.stack(out)


def peers(torch, shape, scores, q, k, v, extra):
    """Name → function, those that this PyTorch has."""
    import torch.nn.functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    _, hq, hkv, sq, sk, _, _ = shape
    found = {}
    if scores in ("full", "causal") and (scores == "full" or sq == sk):
        def sdpa(backend):
            def go():
                with sdpa_kernel(backend):
                    return F.scaled_dot_product_attention(q, k, v, is_causal=scores == "causal", enable_gqa=hq != hkv)
            return go
        found["sdpa_flash"] = sdpa(SDPBackend.FLASH_ATTENTION)
        found["sdpa_cudnn"] = sdpa(SDPBackend.CUDNN_ATTENTION)
    if sq == sk or scores == "full":
        keep = graphs.kept(scores, extra)
        block_mask = create_block_mask(keep, None, None, sq, sk, device="cuda") if keep else None
        compiled = torch.compile(flex_attention, dynamic=False)
        modify = graphs.modified(scores, extra, torch)
        found["flex"] = lambda: compiled(q, k, v, score_mod=modify, block_mask=block_mask, enable_gqa=hq != hkv)
    return found


def bench_one(torch, library, name, shape, scores, rounds, flush):
    b, hq, hkv, sq, sk, dqk, dv = shape
    torch.manual_seed(0)
    make = lambda h, s, d: torch.randn(b, h, s, d, device="cuda", dtype=torch.bfloat16)
    q, k, v = make(hq, sq, dqk), make(hkv, sk, dqk), make(hkv, sk, dv)
    o = torch.full((b, hq, sq, dv), math.nan, device="cuda", dtype=torch.bfloat16)
    extra = graphs.extra_inputs(shape, scores, torch)
    row = {"name": name, "shape": shape, "scores": scores, "impl": {}}
    runs = {}
    try:
        ours = Ours(library, torch, graphs.attention(shape, scores))
        run = ours.bind([q, k, v, *extra], [o])
        run()
        torch.cuda.synchronize()
        start, expected = reference(torch, q, k, v, scores, extra)
        row["max_error"] = (o[0, :2, start:].double() - expected).abs().max().item()
        row["load_ms"], row["kernels"] = ours.load_ms, ours.description["kernels"]
        runs["ours"] = run
    except Exception as problem:  # a row that fails must not cost the others
        row["impl"]["ours"] = {"skipped": str(problem)[:400]}
    runs.update(peers(torch, shape, scores, q, k, v, extra))
    ready = {}
    for impl, run in runs.items():
        try:
            ready[impl] = capture(torch, run)
        except Exception as problem:
            row["impl"][impl] = {"skipped": str(problem)[:400]}
            torch.cuda.synchronize()
    times = {impl: [] for impl in ready}
    for i in range(rounds + 3):
        order = list(ready)
        order = order[i % len(order):] + order[:i % len(order)] if order else []
        for impl in order:
            begin, end = torch.cuda.Event(True), torch.cuda.Event(True)
            flush.zero_()
            begin.record()
            ready[impl]()
            end.record()
            end.synchronize()
            if i >= 3:
                times[impl].append(begin.elapsed_time(end))
    flops = 2 * b * hq * graphs.visited(shape, scores) * (dqk + dv)
    read = 2 * b * hkv * sk * (dqk + dv)
    for impl, ms in times.items():
        ms.sort()
        median = statistics.median(ms)
        row["impl"][impl] = {"ms": median, "p10": ms[len(ms) // 10], "p90": ms[-1 - len(ms) // 10],
                             "tflops": flops / median * 1e-9, "gb_per_s": read / median * 1e-6}
    rate = {impl: value.get("tflops") for impl, value in row["impl"].items()}
    if rate.get("ours"):
        row["of_cudnn"] = rate["ours"] / rate["sdpa_cudnn"] if rate.get("sdpa_cudnn") else None
        row["of_flex"] = rate["ours"] / rate["flex"] if rate.get("flex") else None
    shown = ", ".join(f"{impl} {value['tflops']:.0f} TFLOP/s" if "tflops" in value else f"{impl} skipped ({value['skipped'][:80]})"
                      for impl, value in row["impl"].items())
    say(f"  {name}: {shown}; max error {row.get('max_error', math.nan):.2e}")
    return row


def shapes(quick):
    """(name, shape, scores), the most telling first: whatever a limit on time cuts off is the rest."""
    llama = [(f"llama3.1 {scores} {s // 1024}k", (1, 64, 8, s, s, 128, 128), scores)
             for s in (8192, 2048, 16384, 4096) for scores in ("causal", "full")]
    variants = [(f"{scores} 8k", (1, 16, 16, 8192, 8192, 128, 128), scores)
                for scores in ("full", "causal", "alibi", "window", "softcap", "documents")]
    decode = [(f"decode batch {b}", (b, 32, 8, 1, 8192, 128, 128), "full") for b in (1, 16, 64)]
    others = [("d64 causal 16k", (1, 32, 32, 16384, 16384, 64, 64), "causal"),
              ("d256 causal 16k", (1, 8, 8, 16384, 16384, 256, 256), "causal"),
              ("dsv3 192/128 causal 4k", (1, 128, 128, 4096, 4096, 192, 128), "causal")]
    return [llama[0], variants[2], decode[1]] if quick else llama[:2] + variants + decode + llama[2:] + others


def copy_bandwidth(torch):
    """GB/s of a device-to-device copy, bytes read and written."""
    a = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    b = torch.empty_like(a)
    best = 0
    for _ in range(10):
        begin, end = torch.cuda.Event(True), torch.cuda.Event(True)
        begin.record()
        b.copy_(a)
        end.record()
        end.synchronize()
        best = max(best, 2 * a.numel() / begin.elapsed_time(end) * 1e-6)
    return best


def benchmark(build, quick, limit):
    import torch
    os.environ.setdefault("CUDA_CACHE_DISABLE", "1")
    torch.cuda.init()
    torch.zeros(1, device="cuda")
    library = load_library(build / "libtilewright_gpu.so")
    flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")  # more than any L2
    bandwidth = copy_bandwidth(torch)
    say(f"copy bandwidth {bandwidth:.0f} GB/s, torch {torch.__version__}")
    rows = []
    for name, shape, scores in shapes(quick):
        if time.time() - START > limit:
            say(f"  {name}: left out, the time is up")
            rows.append({"name": name, "left_out": f"after {limit} s"})
            continue
        try:
            rows.append(bench_one(torch, library, name, shape, scores, 10 if quick else 20, flush))
        except Exception as problem:
            say(f"  {name}: failed, {problem}")
            rows.append({"name": name, "failed": str(problem)[:400]})
        torch.cuda.empty_cache()
    per_score = {row["scores"]: row["impl"]["ours"]["ms"] / graphs.visited(row["shape"], row["scores"])
                 for row in rows if row["name"].endswith(" 8k") and "llama" not in row["name"]
                 and "ms" in row.get("impl", {}).get("ours", {})}
    plain = per_score.get("causal")
    over_plain = {scores: time_ / plain - 1 for scores, time_ in per_score.items()} if plain else {}
    return {"torch": torch.__version__, "copy_gb_per_s": bandwidth, "rows": rows, "per_score_over_plain": over_plain}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/no-llvm", help="where tilewright and libtilewright_gpu.so are")
    parser.add_argument("--quick", action="store_true", help="one shape of each kind")
    parser.add_argument("--only", choices=["checks", "benchmark"], help="half of it")
    parser.add_argument("--limit", type=float, default=440, help="seconds after which no shape is begun (440)")
    options = parser.parse_args()
    build = (ROOT / options.build).resolve()
    cli = build / "tilewright"
    code, out, why = command(cli, "devices", "--json")
    try:
        cuda = json.loads(out)["cuda"]
    except (json.JSONDecodeError, KeyError):
        sys.exit(f"{cli} devices failed with exit code {code}: {why}")
    if not cuda.get("devices"):
        sys.exit("no GPU: " + cuda.get("driver", {}).get("missing", "the driver sees no device"))
    device = cuda["devices"][0]["name"]
    say(f"{device}, {cuda['driver']}, NVRTC {cuda['nvrtc']}")
    result = {"device": device, "cuda": cuda,
              "commit": command("git", "rev-parse", "--short", "HEAD")[1].strip() if shutil.which("git") else ""}
    failed = False
    if options.only != "benchmark":
        result["conformance"] = conformance(cli)
        result["numerics"] = numerics(cli, options.quick)
        result["sanitizer"] = sanitizer(cli)
        failed = (result["conformance"].get("wrong", 1) > 0
                  or any(row["exit_code"] not in (0, 2) for row in result["numerics"]))
    if options.only != "checks":
        try:
            result["benchmark"] = benchmark(build, options.quick, options.limit)
        except ImportError as problem:
            say(f"no benchmark: {problem}")
            result["benchmark"] = {"skipped": str(problem)}
    folder = ROOT / "bench/results"
    folder.mkdir(exist_ok=True)
    file = folder / (re.sub(r"[^A-Za-z0-9]+", "_", device).strip("_").lower() + ".json")
    file.write_text(json.dumps(result, indent=1) + "\n")
    say(f"{file.relative_to(ROOT)}; {'something is WRONG' if failed else 'all right'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
