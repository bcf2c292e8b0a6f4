#!/usr/bin/env python3
"""Everything that wants a GPU, in one process tree; writes bench/results/<device>.json as it goes. See README.md."""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import graphs  # noqa: E402
from benchmark import RESTARTS, benchmark  # noqa: E402, F401: steps go by their names
from children import GRACE, ROOT, TIME_IS_UP, Process, command, elapsed, say  # noqa: E402
from tune import tune  # noqa: E402, F401

# In the order in which they run, and parts of the time: nothing of a step begins behind its part and those before it. What a
# step leaves is the next one's; the benchmark is last, because its rows are what can be left for another run.
SHARES = {"conformance": 3, "tune": 5, "numerics": 4, "sanitizer": 2, "benchmark": 11}
CASE_SECONDS = 60
WRONG, INCOMPLETE = 1, 3  # exit codes


class Results:
    """The file, written again after each thing that is known. What another run of the same commit found stays, unless
    this one finds it, too; where no commit is known, nothing does."""

    def __init__(self, folder, device, facts):
        self.path = folder / (re.sub(r"[^A-Za-z0-9]+", "_", device).strip("_").lower() + ".json")
        self.data = {"device": device, **facts}
        try:
            before = json.loads(self.path.read_text())
            if facts["commit"] and before.get("commit") == facts["commit"]:
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
    cases, first, why, late = {}, 0, "", False
    for _ in range(RESTARTS):
        process = Process([setup.cli, "devices", "--conformance", "--target", setup.target, "--from", first],
                          until=setup.limit + GRACE)
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
            if lost or elapsed() > setup.end:
                break
        if not lost and process.code in (0, 1):
            break
        if elapsed() > setup.end or process.code == TIME_IS_UP:
            setup.incomplete.append(f"conformance (behind case {last})")
            late = True
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
    return wrong == 0 and not why and (late or bool(cases))


# ---- numerics --------------------------------------------------------------------------------------------------------

SIZES = [{"B": 2, "Sq": 67, "Sk": 129, "S": 67}, {"B": 1, "Sq": 1, "Sk": 300, "S": 1},
         {"B": 1, "Sq": 640, "Sk": 640, "S": 640}]
HEADS = [(8, 2, 64, 64), (4, 4, 128, 128), (4, 2, 256, 256), (8, 8, 192, 128)]
# Of what the driver said: something was launched, or could not be, and that is never a graph that is not supported.
DRIVER_FAILED = re.compile(r"CUDA_ERROR|unknown error \(|\b(launching|loading a cubin|waiting for)\b")


def numerics_cases(folder, quick):
    """(file, dims, shape): the benchmark's kinds in bf16, which the templates on tensor cores take, then variants and
    models as they are, in f32. Dims that a graph lacks are left out, dims that it has besides get their default. `shape`
    is None where any template may run: in f32, and where the graph has no Sq."""
    files = []
    for hq, hkv, dqk, dv in HEADS[:2] if quick else HEADS:
        for scores in graphs.PLAIN:
            file = pathlib.Path(folder) / f"{scores}_{hq}_{hkv}_{dqk}_{dv}.attn"
            file.write_text(graphs.attention((1, hq, hkv, 1, 1, dqk, dv), scores))
            files.append((file, (hq, hkv, dqk, dv)))
    for kind in [] if quick else graphs.SUITE:
        file = pathlib.Path(folder) / f"{kind}_bf16.attn"
        file.write_text(graphs.attention(None, kind))
        files.append((file, (8, 2 if "[B,2,Sk" in file.read_text() else 8, 64, 64)))
    for kind in ("variants", "models"):
        files += [(file, None) for file in sorted((ROOT / "examples" / kind).glob("*.attn"))]
    for file, heads in files:
        text = file.read_text()
        for sizes in SIZES[:1] if quick else SIZES:
            dims = {name: size for name, size in sizes.items() if re.search(rf"[\[,+\-]{name}[\],+\-]", text)}
            shape = heads and "Sq" in dims and (dims["B"], heads[0], heads[1], dims["Sq"], dims["Sk"], heads[2], heads[3])
            yield file, dims, shape


def verdict(code, words, fast):
    """Of a run of the CLI: right, WRONG, refused (it may be, where no template on tensor cores is expected) or left out."""
    if code == TIME_IS_UP:
        return "left out"
    if code == 2 and not fast and not DRIVER_FAILED.search(words):
        return "refused"
    return "right" if code == 0 else "WRONG"


def numerics(setup, save):
    """The CLI's own verification: against the f64 reference, by the rule of the semantics."""
    def check(case):
        file, dims, shape = case
        row = {"file": file.name, "dims": dims}
        if elapsed() > setup.end:
            return {**row, "verdict": "left out"}
        code, out, why = command(setup.cli, "run", file, "--target", setup.target, "--verify", "--json",
                                 *[f"--dim={name}={size}" for name, size in dims.items()], until=setup.limit + GRACE)
        row.update(exit_code=code, templates=[], passed_over=[])
        try:
            report = json.loads(out)
            row["templates"] = [step["template"] for step in report.get("steps", []) if step["fused"]]
            row["passed_over"] = [why for step in report.get("steps", []) for why in step["passed_over"]]
            why = why or report.get("error", "") or "; ".join(a["failure"] for a in report.get("accuracy", []) if a["failure"])
        except json.JSONDecodeError:
            pass
        row["why"], row["verdict"] = str(why)[:400], verdict(code, out + str(why), bool(shape))
        if row["verdict"] == "right" and shape and row["templates"] != [graphs.expected_template(shape, setup.architecture)]:
            row["verdict"], row["why"] = "WRONG", f"{graphs.expected_template(shape, setup.architecture)} was expected"
        return row

    rows = []
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(setup.jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(check, case)
                                                     for case in numerics_cases(folder, setup.quick)]):
            rows.append(row := done.result())
            if row["verdict"] == "WRONG":
                say(f"  WRONG {row['file']} {row['dims']} ({', '.join(row['templates'])}): {row['why']}")
            save(rows)
    count = {said: sum(row["verdict"] == said for row in rows) for said in ("right", "WRONG", "refused", "left out")}
    say("numerics: " + ", ".join(f"{number} {said}" for said, number in count.items()))
    for row in rows:
        if row["verdict"] == "refused":
            say(f"  refused {row['file']} {row['dims']}: {row['why'][:160]}")
    if count["left out"]:
        setup.incomplete.append(f"numerics ({count['left out']} runs)")
    return count["WRONG"] == 0


# ---- sanitizer -------------------------------------------------------------------------------------------------------


def find_sanitizer():
    """compute-sanitizer on PATH, else of the toolkit; None where there is none."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    return shutil.which("compute-sanitizer") or next(
        filter(None, (shutil.which("compute-sanitizer", path=f"{home}/bin") for home in homes if home)), None)


def sanitizer(setup, save):
    """A sample under compute-sanitizer. `said` of each run: nothing found, FOUND, could not run, left out."""
    tool = find_sanitizer()
    if setup.target != "cuda" or not tool:
        why = "the emulator checks itself" if setup.target != "cuda" else "compute-sanitizer is not installed"
        say(f"compute-sanitizer: skipped, {why}")
        save({"skipped": why})
        return True
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        fast = pathlib.Path(folder) / "causal_bf16.attn"
        fast.write_text(graphs.attention((1, 4, 2, 1, 1, 64, 64), "causal"))
        for file, length in ((fast, 200), (fast, 4), (ROOT / "examples/variants/02_causal.attn", 100)):
            for check in ("memcheck", "racecheck", "synccheck"):
                name = f"{check} {file.stem} {length}"
                if elapsed() > setup.end:
                    results[name] = {"said": "left out"}
                    continue
                code, out, why = command(tool, "--tool", check, "--error-exitcode", "9", setup.cli, "run", file,
                                         "--target", "cuda", "--dim=B=1", f"--dim=Sq={length}", f"--dim=Sk={length}",
                                         until=setup.limit + GRACE)
                words = (out[-600:] + why)[-800:]
                # What the tool cannot do on this machine is no finding of it, and no pass either.
                said = {0: "nothing found", 9: "FOUND", TIME_IS_UP: "left out"}.get(code, "could not run")
                if code == 9 and "Device not supported" in out + why:
                    said = "could not run"
                elif said == "could not run" and DRIVER_FAILED.search(out + why):
                    said = "FOUND"
                results[name] = {"exit_code": code, "said": said, "words": words}
                say(f"  {name}: {said}{'' if code == 0 else f', exit code {code}: {words[-160:]}'}")
                save(results)
    save(results)
    if missing := [f"{name}: {each['said']}" for name, each in results.items() if each["said"] in ("could not run", "left out")]:
        setup.incomplete.append(f"sanitizer ({', '.join(missing)})")
    return not any(each["said"] == "FOUND" for each in results.values())


# ---- all of it -------------------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/no-llvm", help="where tilewright and libtilewright_gpu.so are")
    parser.add_argument("--target", default="cuda", help="cuda, or cuda-emu:sm_90a: a rehearsal without a GPU")
    parser.add_argument("--quick", action="store_true", help="one shape of each kind")
    parser.add_argument("--only", default=",".join(SHARES), help="steps of " + ",".join(SHARES))
    parser.add_argument("--rows", default="", help="rows of the benchmark whose names match, a regular expression")
    parser.add_argument("--resume", action="store_true", help="leave out rows that the results of this commit have")
    parser.add_argument("--limit", type=float, help="seconds after which nothing more is begun (440; on the emulator 3600)")
    parser.add_argument("--tune-budget", type=float, default=5, help="seconds of search per class of shapes (5)")
    parser.add_argument("--out", default="bench/results", help="folder of the results")
    setup = parser.parse_args()
    only = setup.only.split(",")
    if unknown := set(only) - set(SHARES):
        sys.exit(f"--only: {', '.join(sorted(unknown))} is no step; {', '.join(SHARES)} are")
    setup.build = (ROOT / setup.build).resolve()
    if not os.environ.get("VIRTUAL_ENV"):  # where NVRTC of this interpreter's wheels is, for the CLI and the C library
        os.environ["VIRTUAL_ENV"] = sys.prefix
    setup.cli = setup.build / "tilewright"
    setup.emulated = setup.target.startswith("cuda-emu")
    if setup.limit is None:
        setup.limit = 3600 if setup.emulated else 440
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
    commit = commit_of(setup.build)
    if setup.resume and not commit:
        say("--resume: of which commit this is nobody knows, so nothing of an earlier run counts")
    results = Results(ROOT / setup.out, device, {"cuda": cuda, "commit": commit})
    setup.before = dict(results.data)
    setup.database = results.path.with_suffix(".tuning.json")
    if "tune" in only or setup.database.exists():  # else what TILEWRIGHT_TUNING says, or nothing
        os.environ["TILEWRIGHT_TUNING"] = str(setup.database)
    sys.exit(run_steps(only, setup, results))


def commit_of(build):
    """Of the checkout, else what `./dev gpu` wrote beside the build; empty where neither is known."""
    if shutil.which("git") and (commit := command("git", "rev-parse", "--short", "HEAD")[1].strip()):
        return commit
    try:
        return (build / "commit").read_text().strip()
    except OSError:
        return ""


def run_steps(only, setup, results):
    """Each step within its part of the time. The exit code: 0 when all is right and nothing was left out."""
    right, setup.incomplete = True, []
    parts = {step: share for step, share in SHARES.items() if step in only}
    for i, step in enumerate(parts):
        setup.end = setup.limit * sum(list(parts.values())[:i + 1]) / sum(parts.values())
        if elapsed() > setup.end:
            say(f"{step}: left out, the time is up")
            setup.incomplete.append(step)
            continue
        try:
            right = globals()[step](setup, lambda value: results.save(step, value)) and right
        except Exception as problem:  # a step that fails must not cost the others
            say(f"{step}: WRONG: {type(problem).__name__}: {problem}")
            right = False
    results.save("incomplete", setup.incomplete)
    for part in setup.incomplete:
        say(f"INCOMPLETE: {part}")
    say(f"{results.path}; {'something is WRONG' if not right else 'parts are missing' if setup.incomplete else 'all right'}")
    return WRONG if not right else INCOMPLETE if setup.incomplete else 0


if __name__ == "__main__":
    main()
