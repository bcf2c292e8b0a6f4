#!/usr/bin/env python3
"""Everything that wants a GPU, in one process tree; writes bench/results/<device>.json as it goes. See README.md."""
import argparse
import concurrent.futures
import json
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORKER = pathlib.Path(__file__).resolve().parent / "worker.py"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import graphs  # noqa: E402

START = time.time()
STEPS = ["conformance", "tune", "benchmark", "numerics", "sanitizer"]
RESTARTS = 8  # of a step that a kernel hangs or crashes; behind them something is wrong with the machine
CASE_SECONDS, ROW_SECONDS, RUN_SECONDS = 60, 150, 120
TUNE_SECONDS = 100  # of which none is begun afterwards


def say(text):
    print(f"[{time.time() - START:6.1f} s] {text}", flush=True)


class Process:
    """A child whose lines come as they are printed, and that is ended when it says nothing for too long."""

    def __init__(self, arguments, text=""):
        self.errors = tempfile.TemporaryFile("w+")
        self.child = subprocess.Popen([str(a) for a in arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=self.errors, text=True, cwd=ROOT)
        self.queue, self.code, self.why = queue.Queue(), None, ""

        def read():
            for line in self.child.stdout:
                self.queue.put(line.rstrip("\n"))
            self.queue.put(None)

        def write():
            try:
                self.child.stdin.write(text)
                self.child.stdin.close()
            except OSError:
                pass
        for work in (read, write):
            threading.Thread(target=work, daemon=True).start()

    def lines(self, silence):
        """Its lines; afterwards `code` and `why`, which is the end of stderr."""
        try:
            while (line := self.queue.get(timeout=silence)) is not None:
                yield line
            self.code = self.child.wait()
        except queue.Empty:
            self.why = f"nothing was heard for {silence} s"
        finally:
            if self.code is None:
                self.code = 124
                self.child.kill()
                self.child.wait()
            with self.errors:
                self.errors.seek(0)
                self.why = (self.why + " " + self.errors.read().strip()[-400:]).strip()


def command(*arguments, timeout=RUN_SECONDS):
    """Exit code, stdout and the last words of stderr."""
    try:
        done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=timeout, cwd=ROOT)
        return done.returncode, done.stdout, done.stderr.strip()[-500:]
    except subprocess.TimeoutExpired:
        return 124, "", f"ran longer than {timeout} s"
    except OSError as problem:
        return 127, "", str(problem)


class Results:
    """The file, written again after each thing that is known. What another run of the same commit found stays, unless
    this one finds it, too."""

    def __init__(self, folder, device, facts):
        self.path = folder / (re.sub(r"[^A-Za-z0-9]+", "_", device).strip("_").lower() + ".json")
        self.data = {"device": device, **facts}
        try:
            before = json.loads(self.path.read_text())
            if before.get("commit") == facts["commit"]:
                self.data = {**before, **self.data}
        except (OSError, json.JSONDecodeError):
            pass
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, step, value):
        self.data[step] = value
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.data, indent=1) + "\n")
        os.replace(temporary, self.path)


# ---- conformance -----------------------------------------------------------------------------------------------------


def conformance(setup, save):
    """Each primitive; a case that hangs or kills the context is one wrong case, and the next begins in a new process."""
    cases, first, why = {}, 0, ""
    for _ in range(RESTARTS):
        process = Process([setup.cli, "devices", "--conformance", "--target", setup.target, "--from", first])
        last, lost = first - 1, False
        for line in process.lines(CASE_SECONDS):
            match = re.match(r"(right|WRONG) (\d+) (.*)", line)
            if not match:
                continue
            last = int(match[2])
            cases[last] = {"number": last, "pass": match[1] == "right", "what": match[3]}
            if match[1] == "WRONG":
                say(f"  {line}")
                lost = "CUDA_ERROR" in line
            save({"cases": [cases[i] for i in sorted(cases)]})
            if lost:
                break
        if not lost and process.code in (0, 1):
            break
        if not lost:
            if process.code == 2:  # nothing to run them on: no compiler for the emulator, no NVRTC
                why = process.why
                break
            last += 1
            cases[last] = {"number": last, "pass": False, "what": f"exit code {process.code}: {process.why}"}
            say(f"  WRONG case {last}: {cases[last]['what']}")
        first = last + 1
    else:
        why = f"given up after {RESTARTS} restarts"
    wrong = sum(not case["pass"] for case in cases.values())
    say(f"conformance: {len(cases)} cases, {wrong} wrong{'; ' + why if why else ''}")
    save({"cases": [cases[i] for i in sorted(cases)], "wrong": wrong, "why": why})
    return wrong == 0 and not why and bool(cases)


# ---- tune --------------------------------------------------------------------------------------------------------------


def tuned_shapes(quick, emulated):
    """(name, shape, scores): of the benchmark's rows one of each class of shapes, with no more heads, batches and rows than
    fill a GPU a few times and tell lengths apart: candidates are judged on the host, too."""
    found = {}
    for name, shape, scores in shapes(quick, emulated):
        b, hq, hkv, sq, sk, dqk, dv = shape
        decode = sq * hq // hkv <= 64
        longer = (sk if decode else sq) > 2048
        group = hq // hkv
        if decode:
            b = 4
        else:
            sq, sk, hkv = min(sq, 4096), min(sk, 4096), min(hkv, max(16 // group, 1))
        found.setdefault((scores, group, dqk, dv, decode, longer), (name, (b, group * hkv, hkv, sq, sk, dqk, dv), scores))
    return list(found.values())


def tune(setup, save):
    """Schedules of the benchmark's classes, measured and kept beside the results, where every later step finds them. A
    search that fails is one wrong row; what was not searched runs by the rules."""
    rows = {row["name"]: row for row in setup.before.get("tune", {}).get("rows", [])}
    result = {"database": str(setup.database), "rows": list(rows.values())}
    if setup.emulated:
        say("tune: skipped, the emulator has no clock")
        save({"skipped": "the emulator has no clock"})
        return True
    begin, right = time.time(), True
    with tempfile.TemporaryDirectory() as folder:
        for name, shape, scores in tuned_shapes(setup.quick, setup.emulated):
            if not re.search(setup.rows, name) or (setup.resume and rows.get(name, {}).get("steps")):
                continue
            row = rows[name] = {"name": name, "shape": shape, "scores": scores}
            if time.time() - begin > TUNE_SECONDS or time.time() - START > setup.limit:
                row["not_searched"] = f"after {time.time() - begin:.0f} s"
            else:
                file = pathlib.Path(folder) / "graph.attn"
                file.write_text(graphs.attention(shape, scores))
                dims = {"B": shape[0], "Sq": shape[3], "Sk": shape[4]}
                code, out, why = command(setup.cli, "tune", file, "--target", setup.target, "--json", "--db",
                                         setup.database, "--budget", setup.tune_budget, "--candidates", 24, "--no-twins",
                                         *[f"--dim={dim}={size}" for dim, size in dims.items()],
                                         timeout=RUN_SECONDS + setup.tune_budget)
                try:
                    if code != 0:
                        raise ValueError(why)
                    (said,) = json.loads(out)
                    row.update(seconds=said["seconds"], notes=said["notes"], steps=[summary_of_search(s) for s in said["steps"]])
                    for step in row["steps"]:
                        say(f"  {name}: {step['speedup']:.3f} times the rules' speed, {step['schedule']} "
                            f"({step['measured']} of {step['legal']} schedules{', out of time' if step['out_of_time'] else ''})")
                        for wrong in step["wrong"]:
                            say(f"    WRONG {wrong}")
                        right = right and not step["wrong"]
                except (ValueError, KeyError) as problem:  # JSONDecodeError is one
                    row["failed"] = f"exit code {code}: {why or problem}"
                    say(f"  {name}: WRONG: {row['failed']}")
                    right = False
            result["rows"] = list(rows.values())
            save(result)
    count = lambda key: sum(key in row for row in rows.values())
    say(f"tune: {count('steps')} classes in {time.time() - begin:.0f} s, {count('failed')} failed, "
        f"{count('not_searched')} not searched; kept in {setup.database}")
    save(result)
    return right


def summary_of_search(step):
    """Of a step of `tune --json`: what won and who was wrong."""
    candidates = step["candidates"]
    return {"class": step["class"], "speedup": step["speedup"], "schedule": candidates[step["chosen"]]["schedule"],
            "rules": candidates[0]["schedule"], "legal": step["legal"],
            "measured": sum(bool(each["warm_s"]) for each in candidates), "out_of_time": step["out_of_time"],
            "ms": {each["schedule"]: each["ms"] for each in candidates if each["ms"]},
            "wrong": [f"{each['schedule']}: {each['why']}" for each in candidates if each["fate"] in ("wrong", "failed")]}


# ---- numerics --------------------------------------------------------------------------------------------------------

SIZES = [{"B": 2, "Sq": 67, "Sk": 129, "S": 67}, {"B": 1, "Sq": 1, "Sk": 300, "S": 1},
         {"B": 1, "Sq": 640, "Sk": 640, "S": 640}]
HEADS = [(8, 2, 64, 64), (4, 4, 128, 128), (4, 2, 256, 256), (8, 8, 192, 128)]
SCORES = ["full", "causal", "alibi", "window", "softcap", "documents"]


def numerics_cases(folder, quick):
    """(file, dims, shape): the benchmark's scores in bf16, which the templates on tensor cores take, then variants and
    models as they are, in f32. Dims that a graph lacks are left out, dims that it has besides get their default. `shape`
    is None where any template may run."""
    files = []
    for hq, hkv, dqk, dv in HEADS[:2] if quick else HEADS:
        for scores in SCORES:
            file = pathlib.Path(folder) / f"{scores}_{hq}_{hkv}_{dqk}_{dv}.attn"
            file.write_text(graphs.attention((1, hq, hkv, 1, 1, dqk, dv), scores))
            files.append((file, (hq, hkv, dqk, dv)))
    for kind in ("variants", "models"):
        files += [(file, None) for file in sorted((ROOT / "examples" / kind).glob("*.attn"))]
    for file, heads in files:
        text = file.read_text()
        for sizes in SIZES[:1] if quick else SIZES:
            dims = {name: size for name, size in sizes.items() if re.search(rf"[\[,+\-]{name}[\],+\-]", text)}
            shape = heads and (dims["B"], heads[0], heads[1], dims["Sq"], dims["Sk"], heads[2], heads[3])
            yield file, dims, shape


def numerics(setup, save):
    """The CLI's own verification: against the f64 reference, by the rule of the semantics."""
    def check(case):
        file, dims, shape = case
        row = {"file": file.name, "dims": dims}
        if time.time() - START > setup.limit:
            return {**row, "left_out": "the time is up"}
        code, out, why = command(setup.cli, "run", file, "--target", setup.target, "--verify", "--json",
                                 *[f"--dim={name}={size}" for name, size in dims.items()])
        row.update(exit_code=code, templates=[], passed_over=[])
        try:
            report = json.loads(out)
            row["templates"] = [step["template"] for step in report.get("steps", [])]
            row["passed_over"] = [why for step in report.get("steps", []) for why in step["passed_over"]]
            why = why or report.get("error", "") or "; ".join(a["failure"] for a in report.get("accuracy", []) if a["failure"])
        except json.JSONDecodeError:
            pass
        if code == 0 and shape and row["templates"] != [graphs.expected_template(shape, setup.architecture)]:
            row["exit_code"], why = 1, f"{graphs.expected_template(shape, setup.architecture)} was expected"
        row["why"] = str(why)[:400]
        return row

    rows = []
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(setup.jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(check, case)
                                                     for case in numerics_cases(folder, setup.quick)]):
            rows.append(row := done.result())
            if row.get("exit_code", 0) not in (0, 2):
                say(f"  WRONG {row['file']} {row['dims']} ({', '.join(row['templates'])}): {row['why']}")
            save(rows)
    count = lambda wanted: sum(bool(wanted(row)) for row in rows)
    wrong = count(lambda row: row.get("exit_code", 0) not in (0, 2))
    say(f"numerics: {len(rows)} runs, {wrong} wrong, {count(lambda r: r.get('exit_code') == 2)} refused, "
        f"{count(lambda r: 'left_out' in r)} left out")
    for row in rows:
        if row.get("exit_code") == 2:
            say(f"  refused {row['file']} {row['dims']}: {row['why'][:160]}")
    return wrong == 0


# ---- sanitizer -------------------------------------------------------------------------------------------------------


def sanitizer(setup, save):
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if setup.target != "cuda" or not os.path.exists(tool):
        why = "the emulator checks itself" if setup.target != "cuda" else "compute-sanitizer is not installed"
        say(f"compute-sanitizer: skipped, {why}")
        save({"skipped": why})
        return True
    results, right = {}, True
    with tempfile.TemporaryDirectory() as folder:
        fast = pathlib.Path(folder) / "causal_bf16.attn"
        fast.write_text(graphs.attention((1, 4, 2, 1, 1, 64, 64), "causal"))
        for file, length in ((fast, 200), (fast, 4), (ROOT / "examples/variants/02_causal.attn", 100)):
            for check in ("memcheck", "racecheck", "synccheck"):
                name = f"{check} {file.stem} {length}"
                if time.time() - START > setup.limit:
                    results[name] = {"left_out": "the time is up"}
                    continue
                code, out, why = command(tool, "--tool", check, "--error-exitcode", "9", setup.cli, "run", file,
                                         "--target", "cuda", "--dim=B=1", f"--dim=Sq={length}", f"--dim=Sk={length}")
                # What the tool cannot do on this machine is no finding of it.
                found = code == 9 and "Device not supported" not in out + why
                results[name] = {"exit_code": code, "found": found, "words": (out[-600:] + why)[-800:]}
                right = right and not found
                say(f"  {name}: {'FOUND something' if found else 'nothing found' if code == 0 else f'exit code {code}'}")
                save(results)
    save(results)
    return right


# ---- benchmark -------------------------------------------------------------------------------------------------------


def shapes(quick, emulated):
    """(name, shape, scores), the most telling first: whatever a limit on time cuts off is the rest."""
    if emulated:
        prefill, step = (1, 4, 2, 200, 200, 64, 64), (2, 4, 2, 1, 300, 64, 64)
        return [*[(f"rehearsal {scores}", prefill, scores) for scores in SCORES], ("rehearsal decode", step, "full")]
    llama = [(f"llama3.1 {scores} {s // 1024}k", (1, 64, 8, s, s, 128, 128), scores)
             for s in (8192, 2048, 16384, 4096) for scores in ("causal", "full")]
    variants = [(f"{scores} 8k", (1, 16, 16, 8192, 8192, 128, 128), scores) for scores in SCORES]
    decode = [(f"decode batch {b}", (b, 32, 8, 1, 8192, 128, 128), "full") for b in (1, 16, 64)]
    others = [("d64 causal 16k", (1, 32, 32, 16384, 16384, 64, 64), "causal"),
              ("d256 causal 16k", (1, 8, 8, 16384, 16384, 256, 256), "causal"),
              ("dsv3 192/128 causal 4k", (1, 128, 128, 4096, 4096, 192, 128), "causal")]
    return [llama[0], variants[2], decode[1]] if quick else llama[:2] + variants + decode + llama[2:] + others


def summary(row, bandwidth):
    """Ours beside each peer, and beside the bandwidth of a copy where one query a head reads all keys."""
    rate = {name: value.get("tflops") for name, value in row["impl"].items()}
    row["of"] = {name: rate["ours"] / value for name, value in rate.items() if value and name != "ours"} if rate.get("ours") else {}
    if row["shape"][3] == 1 and rate.get("ours") and bandwidth:
        row["of_copy"] = row["impl"]["ours"]["gb_per_s"] / bandwidth
    shown = [f"{name} {value['tflops']:.0f} TFLOP/s, {value['ms']:.3f} ms" if "tflops" in value
             else f"{name} skipped ({value.get('skipped', 'it failed')[:80]})" for name, value in row["impl"].items()]
    if "of_copy" in row:
        shown.append(f"{100 * row['of_copy']:.0f} % of a copy's bandwidth")
    took = ", ".join(step["template"] for step in row.get("taken", []))
    say(f"  {row['name']} [{took}]: {'; '.join(shown)}; max error {row.get('max_error', float('nan')):.2e}")
    for why in row.get("failed", []):
        say(f"    WRONG: {why}")


def benchmark(setup, save):
    """Rows of a worker process; a row that kills or hangs it is one failed row, and the next begins in a new one."""
    rows = {row["name"]: row for row in setup.before.get("benchmark", {}).get("rows", [])}
    todo = [{"name": name, "shape": shape, "scores": scores} for name, shape, scores in shapes(setup.quick, setup.emulated)
            if re.search(setup.rows, name) and not (setup.resume and "impl" in rows.get(name, {}) and "failed" not in rows[name])]
    result = {"rows": []}

    def keep(row=None):
        if row:
            rows[row["name"]] = row
        result["rows"] = list(rows.values())
        save(result)
    worker = [sys.executable, WORKER, "--build", setup.build,
                   "--target", setup.target, "--rounds", 2 if setup.emulated else 10 if setup.quick else 20]
    asked = {row["name"] for row in todo}
    for _ in range(RESTARTS):
        if not todo or time.time() - START > setup.limit:
            break
        process = Process(worker, "".join(json.dumps(row) + "\n" for row in todo))
        for line in process.lines(ROW_SECONDS):
            try:
                said = json.loads(line)
            except json.JSONDecodeError:  # what a library printed
                continue
            if "skipped" in said:
                say(f"benchmark: skipped, {said['skipped']}")
                result.update(said)
                keep()
                return True
            if "copy_gb_per_s" in said:
                result.update(said)
                say(f"copy bandwidth {said['copy_gb_per_s']:.0f} GB/s, torch {said['torch']}")
                continue
            todo = [row for row in todo if row["name"] != said["name"]]
            if "impl" in said:
                summary(said, result.get("copy_gb_per_s"))
            else:
                say(f"  {said['name']}: WRONG: {'; '.join(said['failed'])}")
            keep(said)
            if time.time() - START > setup.limit:
                break
        if process.code == 0 or time.time() - START > setup.limit:
            break
        if process.code == 3:  # said so itself, after its row
            continue
        if "copy_gb_per_s" not in result:  # it never began
            say(f"benchmark: the worker ended with exit code {process.code}: {process.why}")
            result["why"] = process.why
            keep()
            return False
        row = todo.pop(0)
        row["failed"] = [f"exit code {process.code}: {process.why}"]
        say(f"  {row['name']}: WRONG: {row['failed'][0]}")
        keep(row)
    for row in todo:
        say(f"  {row['name']}: left out")
        if row["name"] not in rows:
            keep({**row, "left_out": f"after {time.time() - START:.0f} s"})
    per_score = {row["scores"]: row["impl"]["ours"]["ms"] / graphs.visited(row["shape"], row["scores"])
                 for row in rows.values() if row["name"] == f"{row['scores']} 8k" and "ms" in row.get("impl", {}).get("ours", {})}
    if per_score.get("causal"):
        result["per_score_over_plain"] = {scores: each / per_score["causal"] - 1 for scores, each in per_score.items()}
        say("per visited score, over plain causal: "
            + ", ".join(f"{scores} {100 * over:+.0f} %" for scores, over in result["per_score_over_plain"].items()))
    keep()
    return not any("failed" in rows[name] for name in asked if name in rows)


# ---- all of it -------------------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/no-llvm", help="where tilewright and libtilewright_gpu.so are")
    parser.add_argument("--target", default="cuda", help="cuda, or cuda-emu:sm_90a: a rehearsal without a GPU")
    parser.add_argument("--quick", action="store_true", help="one shape of each kind")
    parser.add_argument("--only", default=",".join(STEPS), help="steps of " + ",".join(STEPS))
    parser.add_argument("--rows", default="", help="rows of the benchmark whose names match, a regular expression")
    parser.add_argument("--resume", action="store_true", help="leave out rows that the results of this commit have")
    parser.add_argument("--limit", type=float, default=440, help="seconds after which nothing more is begun (440)")
    parser.add_argument("--tune-budget", type=float, default=5, help="seconds of search per class of shapes (5)")
    parser.add_argument("--out", default="bench/results", help="folder of the results")
    setup = parser.parse_args()
    only = setup.only.split(",")
    if unknown := set(only) - set(STEPS):
        sys.exit(f"--only: {', '.join(sorted(unknown))} is no step; {', '.join(STEPS)} are")
    setup.build = (ROOT / setup.build).resolve()
    setup.cli = setup.build / "tilewright"
    setup.emulated = setup.target.startswith("cuda-emu")
    setup.jobs = max(2, min(8, (os.cpu_count() or 2) // 2))
    code, out, why = command(setup.cli, "devices", "--json")
    try:
        cuda = json.loads(out)["cuda"]
    except (json.JSONDecodeError, KeyError):
        sys.exit(f"{setup.cli} devices failed with exit code {code}: {why}")
    if setup.emulated:
        device, setup.architecture = f"emulator {setup.target.partition(':')[2]}", setup.target.partition(":")[2]
    elif not cuda.get("devices"):
        sys.exit("no GPU: " + cuda.get("driver", {}).get("missing", "the driver sees no device"))
    else:
        device, setup.architecture = cuda["devices"][0]["name"], cuda["devices"][0]["architecture"]
    say(f"{device}; driver {cuda['driver']}; NVRTC {cuda['nvrtc']}")
    commit = command("git", "rev-parse", "--short", "HEAD")[1].strip() if shutil.which("git") else ""
    results = Results(ROOT / setup.out, device, {"cuda": cuda, "commit": commit})
    setup.before = dict(results.data)
    setup.database = results.path.with_suffix(".tuning.json")
    if "tune" in only or setup.database.exists():  # else what TILEWRIGHT_TUNING says, or nothing
        os.environ["TILEWRIGHT_TUNING"] = str(setup.database)
    right, whole = True, True
    for step in STEPS:
        if step not in only:
            continue
        if time.time() - START > setup.limit:
            say(f"{step}: left out, the time is up")
            whole = False
            continue
        try:
            right = globals()[step](setup, lambda value: results.save(step, value)) and right
        except Exception as problem:  # a step that fails must not cost the others
            say(f"{step}: WRONG: {type(problem).__name__}: {problem}")
            right = False
    whole = whole and "left_out" not in json.dumps(results.data)
    say(f"{results.path}; {'all right' if right else 'something is WRONG'}{'' if whole else ', and parts were left out'}")
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
