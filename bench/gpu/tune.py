"""The step that searches schedules for the benchmark's classes of shapes."""
import json
import pathlib
import re
import tempfile
import time

import benchmark
import graphs
from children import GRACE, TIME_IS_UP, command, elapsed, say


def tuned_shapes(quick, emulated):
    """(name, shape, scores): of the benchmark's rows one of each class of shapes, with no more heads, batches and rows than
    fill a GPU a few times and tell lengths apart: candidates are judged on the host, too."""
    found = {}
    for row in benchmark.shapes(quick, emulated):
        name, shape, scores = row["name"], row["shape"], row["scores"]
        if scores not in graphs.PLAIN:  # those of the suite run by the rules: a search each is more than the time allows
            continue
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
            if elapsed() > setup.end:
                row["not_searched"] = f"after {time.time() - begin:.0f} s"
            else:
                file = pathlib.Path(folder) / "graph.attn"
                file.write_text(graphs.attention(shape, scores))
                dims = {"B": shape[0], "Sq": shape[3], "Sk": shape[4]}
                code, out, why = command(setup.cli, "tune", file, "--target", setup.target, "--json", "--db",
                                         setup.database, "--budget", setup.tune_budget, "--candidates", 24, "--no-twins",
                                         *[f"--dim={dim}={size}" for dim, size in dims.items()],
                                         timeout=120 + setup.tune_budget, until=setup.limit + GRACE)
                if code == TIME_IS_UP:
                    row["not_searched"] = why
                    continue
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
    result["rows"] = list(rows.values())
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
