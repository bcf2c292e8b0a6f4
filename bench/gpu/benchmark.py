"""The step that measures: its rows, and the worker that each runs in."""
import json
import pathlib
import re
import sys

import bars
import graphs
from children import GRACE, TIME_IS_UP, Process, elapsed, say

WORKER = pathlib.Path(__file__).resolve().parent / "worker.py"
RESTARTS = 8  # behind rows that hang or crash; then something is wrong with the machine
ROW_SECONDS = 150
# Variants of the suite at one shape of 8 heads of d64, but those that are written for another.
SUITE_SHAPE = (4, 8, 8, 8192, 8192, 64, 64)
SUITE_SHAPES = {"08_gpt_oss": (4, 8, 2, 8192, 8192, 64, 64), "19_nsa_selection": (4, 8, 2, 8192, 8192, 64, 64),
                "11_swin": (256, 8, 8, 256, 256, 64, 64), "13_graphormer": (1, 8, 8, 8192, 8192, 64, 64),
                "21_tree_verify": (16, 8, 8, 64, 8192, 64, 64)}


def suite(shapes, common):
    return [{"name": f"suite {scores}", "shape": shapes.get(scores, common), "scores": scores} for scores in graphs.SUITE]


def shapes(quick, emulated):
    """Rows {name, shape, scores}, the most telling first: whatever a limit on time cuts off is the rest. `flex` is false
    where compiling flex_attention once more would tell nothing new."""
    def row(name, shape, scores, flex=True):
        return {"name": name, "shape": shape, "scores": scores, **({} if flex else {"flex": False})}
    if emulated:
        prefill, step = (1, 4, 2, 200, 200, 64, 64), (2, 4, 2, 1, 300, 64, 64)
        plain = [*[row(f"rehearsal {scores}", prefill, scores) for scores in graphs.PLAIN],
                 row("rehearsal decode", step, "full")]
        # no multiples of a tile; NATTEN's image is 16 wide, its blocks and T5's are whole
        small = {scores: (2, *shape[1:3], 64 if shape[3] == 64 else 208, 208, *shape[5:])
                 for scores, shape in SUITE_SHAPES.items()}
        rest = suite(small, (2, 8, 8, 208, 208, 64, 64))
        return plain + ([] if quick else rest)
    llama = [row(f"llama3.1 {scores} {s // 1024}k", (1, 64, 8, s, s, 128, 128), scores, flex=s == 8192)
             for s in (8192, 2048, 16384, 4096) for scores in ("causal", "full")]
    kinds = [row(f"{scores} 8k", (1, 16, 16, 8192, 8192, 128, 128), scores) for scores in graphs.PLAIN]
    decode = [row(f"decode batch {b}", (b, 32, 8, 1, 8192, 128, 128), "full", flex=b == 16) for b in (16, 64, 1)]
    others = [*[row(f"dsv3 192/128 causal {s // 1024}k", (1, 128, 128, s, s, 192, 128), "causal", flex=False)
                for s in (8192, 4096, 2048)],
              *[row(f"d{d} {scores} 16k", (1, h, h, 16384, 16384, d, d), scores, flex=False)
                for d, h in ((64, 32), (256, 8)) for scores in ("causal", "full")]]
    variants = suite(SUITE_SHAPES, SUITE_SHAPE)
    if quick:
        return [llama[0], kinds[2], decode[0], next(each for each in variants if each["scores"] == "08_gpt_oss")]
    return llama[:2] + kinds + decode + llama[2:] + others + variants


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
    todo = [row for row in shapes(setup.quick, setup.emulated) if re.search(setup.rows, row["name"])
            and not (setup.resume and "impl" in rows.get(row["name"], {}) and "failed" not in rows[row["name"]])]
    result = {"rows": list(rows.values())}

    def keep(row=None):
        if row:
            rows[row["name"]] = row
        result["rows"] = list(rows.values())
        save(result)
    worker = [sys.executable, WORKER, "--build", setup.build,
              "--target", setup.target, "--rounds", 2 if setup.emulated else 10 if setup.quick else 20]
    asked = {row["name"] for row in todo}
    for _ in range(RESTARTS):
        if not todo or elapsed() > setup.end:
            break
        process = Process(worker, "".join(json.dumps(row) + "\n" for row in todo), setup.limit + GRACE)
        for line in process.lines(ROW_SECONDS):
            try:
                said = json.loads(line)
            except json.JSONDecodeError:  # what a library printed
                continue
            if "skipped" in said:
                say(f"benchmark: skipped, {said['skipped']}")
                if not setup.emulated:
                    setup.incomplete.append(f"benchmark ({said['skipped']}; `tune` has times of our own kernels)")
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
            if elapsed() > setup.end:
                break
        if process.code in (0, TIME_IS_UP) or elapsed() > setup.end:
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
            keep({**row, "left_out": f"after {elapsed():.0f} s"})
    if todo:
        setup.incomplete.append(f"benchmark ({len(todo)} rows: {', '.join(row['name'] for row in todo)})")
    if not setup.emulated:
        result["per_score_over_plain"] = bars.costs_per_score(rows.values())
        result["bars"] = bars.judge(rows.values())
        for line in bars.lines(result["bars"]):
            say(line)
    keep()
    return not any("failed" in rows[name] for name in asked if name in rows)
