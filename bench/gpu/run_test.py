#!/usr/bin/env python3
"""The steps of ./dev gpu where kernels hang, crash and fall back, which no machine here has a GPU to show: over a CLI and a
worker that do so on demand."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import types
import unittest
import unittest.mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import bars  # noqa: E402
import benchmark  # noqa: E402
import children  # noqa: E402
import graphs  # noqa: E402
import run  # noqa: E402
import tune  # noqa: E402

said = []  # what the steps told a person
for module in (run, benchmark, tune):
    module.say = said.append


class Steps(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.saved = []
        said.clear()
        self.setup = types.SimpleNamespace(
            target="cuda", architecture="sm_90a", emulated=False, quick=True, limit=1e9, end=1e9, incomplete=[], jobs=2, rows="", resume=False,
            before={}, build=pathlib.Path(self.folder.name), cli=self.script("tilewright", ""))

    def script(self, name, text):
        path = pathlib.Path(self.folder.name) / name
        path.write_text("#!/usr/bin/env python3\nimport json, os, sys, time\n" + text)
        path.chmod(0o755)
        return path

    def step(self, name):
        return getattr(run, name)(self.setup, self.saved.append), self.saved[-1]

    def test_a_primitive_that_hangs_or_kills_the_context_is_one_wrong_case(self):
        run.CASE_SECONDS = 10
        self.setup.cli = self.script("cli", """
first = int(sys.argv[sys.argv.index("--from") + 1])
for i in range(first, 6):
    if i == 2: time.sleep(100)
    if i == 4: os._exit(9)
    print("WRONG 1 b: launching kernel failed: CUDA_ERROR_ILLEGAL_ADDRESS" if i == 1 else f"right {i} a", flush=True)
""")
        right, said = self.step("conformance")
        self.assertFalse(right)
        self.assertEqual([case["pass"] for case in said["cases"]], [True, False, False, True, False, True])
        self.assertIn("nothing was heard for 10 s", said["cases"][2]["what"])
        self.assertIn("exit code 9", said["cases"][4]["what"])

    def test_nothing_to_run_the_primitives_on_is_no_success(self):
        self.setup.cli = self.script("cli", "sys.stderr.write('no C++ compiler'); sys.exit(2)")
        right, said = self.step("conformance")
        self.assertFalse(right)
        self.assertIn("no C++ compiler", said["why"])

    def numerics(self, template):
        self.setup.cli = self.script("cli", f"""
print(json.dumps({{"steps": [{{"template": "loop", "fused": False, "passed_over": []}},
    {{"template": "{template}", "fused": True, "passed_over": ["sm90_prefill: a stride"]}}], "accuracy": []}}))
""")
        return self.step("numerics")

    def test_a_fall_back_is_wrong_where_a_fast_template_was_expected(self):
        right, rows = self.numerics("generic")
        self.assertFalse(right)
        wrong = [row for row in rows if row["verdict"] == "WRONG"]
        self.assertEqual(len(wrong), 12, "the benchmark's graphs; any template may run the variants")
        self.assertIn("sm90_prefill was expected", wrong[0]["why"])
        self.assertTrue(self.numerics("sm90_prefill")[0])

    def test_a_refusal_is_wrong_where_a_template_was_expected_and_where_the_driver_failed(self):
        self.setup.cli = self.script("cli", "sys.stderr.write('the tilewright cannot: no such layout'); sys.exit(2)")
        right, rows = self.step("numerics")
        self.assertFalse(right)
        self.assertEqual({(row["file"][0].isdigit() or "models" in row["file"], row["verdict"]) for row in rows
                          if row["file"].startswith(("full", "causal", "02"))}, {(False, "WRONG"), (True, "refused")})
        for words, verdict in (("loading a cubin for sm_90a failed: CUDA_ERROR_INVALID_IMAGE (200), no words", "WRONG"),
                               ("copying failed: CUDA_ERROR_ILLEGAL_ADDRESS (700), an illegal access", "WRONG"),
                               ("launching kernel with 4 blocks failed: unknown error (1), no words", "WRONG"),
                               ("sm_75 has no such instructions", "refused")):
            self.assertEqual(run.verdict(2, words, False), verdict, words)
            self.assertEqual(run.verdict(2, words, True), "WRONG", words)
        self.assertEqual(run.verdict(1, "", False), "WRONG")
        self.assertEqual(run.verdict(children.TIME_IS_UP, "the time is up", True), "left out")

    def sanitizer(self, what):
        home = pathlib.Path(self.folder.name) / "cuda"
        (home / "bin").mkdir(parents=True, exist_ok=True)
        self.script("cuda/bin/compute-sanitizer", what)
        with unittest.mock.patch.dict(os.environ, {"CUDA_HOME": str(home)}):
            right, rows = self.step("sanitizer")
        self.assertEqual(len(rows), 9)
        return right, {each["said"] for each in rows.values()}

    def test_a_sanitizer_that_cannot_run_has_not_passed(self):
        self.assertEqual(self.sanitizer(""), (True, {"nothing found"}))
        self.assertEqual(self.setup.incomplete, [])
        self.assertEqual(self.sanitizer("sys.exit(9)"), (False, {"FOUND"}))
        self.assertEqual(self.sanitizer("sys.stderr.write('CUDA_ERROR_ILLEGAL_ADDRESS'); sys.exit(2)"), (False, {"FOUND"}))
        self.assertEqual(self.setup.incomplete, [])
        for what in ("sys.exit(1)", "os.kill(os.getpid(), 9)", "print('Device not supported'); sys.exit(9)"):
            self.setup.incomplete = []
            self.assertEqual(self.sanitizer(what), (True, {"could not run"}))
            self.assertIn("synccheck 02_causal 100: could not run", self.setup.incomplete[0])

    def run_steps(self, results, only=("numerics", "benchmark")):
        """The exit code over steps that do as told: {step: function of setup}."""
        kept = run.Results(pathlib.Path(self.folder.name), "A GPU", {"commit": ""})
        steps = {step: (lambda setup, save, do=do: (save({}), do(setup))[1]) for step, do in results.items()}
        with unittest.mock.patch.multiple(run, **steps):
            return run.run_steps(only, self.setup, kept), kept.data["incomplete"]

    def test_what_is_left_out_is_named_and_no_success(self):
        self.assertEqual(self.run_steps({"numerics": lambda s: True, "benchmark": lambda s: True}), (0, []))
        lost = lambda s: s.incomplete.append("benchmark (1 rows: causal 8k)") is None
        self.assertEqual(self.run_steps({"numerics": lambda s: True, "benchmark": lost}), (3, ["benchmark (1 rows: causal 8k)"]))
        self.assertEqual(self.run_steps({"numerics": lambda s: False, "benchmark": lost})[0], 1)
        self.setup.limit = -1
        self.assertEqual(self.run_steps({"numerics": lambda s: True}), (3, ["numerics", "benchmark"]))

    def test_steps_have_parts_of_the_time_and_the_benchmark_is_last(self):
        ends = {}
        note = lambda step: lambda setup: ends.update({step: setup.end}) is None
        self.setup.limit = 1e8
        self.run_steps({step: note(step) for step in run.SHARES}, only=list(run.SHARES))
        self.assertEqual(list(ends), ["conformance", "tune", "numerics", "sanitizer", "benchmark"])
        self.assertEqual(sorted(ends.values()), list(ends.values()))
        self.assertEqual(ends["benchmark"], 1e8)
        self.assertLess(ends["conformance"], 0.2e8)

    def test_time_that_is_up_is_no_wrong_result(self):
        hang = "print(json.dumps({'torch': '0', 'copy_gb_per_s': 1}), flush=True); time.sleep(100)"
        benchmark.WORKER, self.setup.rows = self.script("worker", hang), "^llama3.1 causal"
        self.setup.cli = self.script("cli", "time.sleep(100)")
        for step in ("conformance", "numerics", "benchmark"):
            began = children.elapsed()
            self.setup.limit = began - children.GRACE + 1
            right, _ = self.step(step)
            self.assertTrue(right, step)
            self.assertLess(children.elapsed() - began, 20)
        self.assertEqual([part.split()[0] for part in self.setup.incomplete], ["conformance", "numerics", "benchmark"])
        self.assertIn("llama3.1 causal 8k", self.setup.incomplete[2])

    def tune(self, what):
        self.setup.tune_budget, self.setup.database = 1, pathlib.Path(self.folder.name) / "t.json"
        self.setup.cli = self.script("cli", """
words = sys.argv
assert words[1] == "tune" and words[words.index("--target") + 1] == "cuda" and "--no-twins" in words
text = open(words[2]).read()
each = lambda name, fate, ms: {"schedule": name, "fate": fate, "why": "" if fate != "wrong" else "%o differs",
                               "ms": ms, "warm_s": [ms] if ms else []}
step = {"class": "c", "speedup": 1.25, "legal": 40, "chosen": 1, "out_of_time": False,
        "candidates": [each("rules", "dropped", 5), each("fast", "chosen", 4)]}
""" + what + """
print(json.dumps([{"seconds": 1, "notes": [], "steps": [step]}]))
""")
        return self.step("tune")

    def test_each_class_of_the_benchmark_is_tuned_once_and_failures_are_rows(self):
        right, said = self.tune("")
        self.assertTrue(right)
        self.assertEqual([row["scores"] for row in said["rows"]], ["causal", "alibi", "full"])
        self.assertEqual(said["rows"][0]["steps"][0]["schedule"], "fast")
        self.assertEqual(said["rows"][0]["shape"], (1, 16, 2, 4096, 4096, 128, 128))
        self.assertEqual(said["database"], str(self.setup.database))
        right, said = self.tune("if 'alibi' in text: sys.stderr.write('no clock'); sys.exit(2)")
        self.assertFalse(right)
        self.assertEqual([row["name"] for row in said["rows"] if "failed" in row], ["alibi 8k"])
        self.assertIn("no clock", [row["failed"] for row in said["rows"] if "failed" in row][0])
        right, said = self.tune("step['candidates'].append(each('bad', 'wrong', 0))")
        self.assertFalse(right)
        self.assertEqual(said["rows"][0]["steps"][0]["wrong"], ["bad: %o differs"])

    def test_a_search_that_resumes_leaves_out_classes_that_it_has(self):
        self.setup.resume = True
        self.setup.before = {"tune": {"rows": [{"name": "alibi 8k", "steps": [{"speedup": 9}]}, {"name": "decode batch 16"}]}}
        right, said = self.tune("step['speedup'] = 2")
        self.assertTrue(right)
        self.assertEqual({row["name"]: row["steps"][0]["speedup"] for row in said["rows"]},
                         {"alibi 8k": 9, "decode batch 16": 2, "llama3.1 causal 8k": 2})

    def test_the_classes_of_all_rows_are_fewer_than_the_rows(self):
        classes = tune.tuned_shapes(False, False)
        self.assertLess(len(classes), len(benchmark.shapes(False, False)))
        self.assertEqual(len({name for name, _, _ in classes}), len(classes))
        self.assertEqual({scores for _, _, scores in classes}, set(graphs.PLAIN))

    def benchmark(self, what):
        self.setup.quick = False
        self.setup.rows = "^llama3.1 causal"
        benchmark.ROW_SECONDS = 10
        benchmark.WORKER = self.script("worker", """
print(json.dumps({"torch": "0", "copy_gb_per_s": 1000}), flush=True)
for line in sys.stdin:
    row = json.loads(line)
    row["impl"] = {"ours": {"tflops": 300, "ms": 1, "gb_per_s": 1}, "sdpa_cudnn": {"tflops": 600, "ms": 2}}
    if "2k" in row["name"]:
        """ + what + """
    print(json.dumps(row), flush=True)
""")
        right, said = self.step("benchmark")
        self.assertEqual(len(said["rows"]), 4)
        self.assertEqual([row["name"] for row in said["rows"] if "failed" in row], ["llama3.1 causal 2k"])
        self.assertEqual(said["rows"][0]["of"], {"sdpa_cudnn": 0.5})
        self.assertFalse(right)
        return [row for row in said["rows"] if "failed" in row][0]

    def test_a_row_that_fails_hangs_or_crashes_is_one_failed_row(self):
        self.assertIn("exit code -9", self.benchmark("os.kill(os.getpid(), 9)")["failed"][0])
        self.assertIn("nothing was heard", self.benchmark("time.sleep(100)")["failed"][0])
        self.assertEqual(["fell back"], self.benchmark("row['failed'] = ['fell back']")["failed"])
        lost = "print(json.dumps(dict(row, failed=['illegal address'])), flush=True); sys.exit(3)"
        self.assertEqual(["illegal address"], self.benchmark(lost)["failed"])

    def test_a_run_that_resumes_leaves_out_what_the_results_have(self):
        self.setup.resume = True
        self.setup.before = {"benchmark": {"rows": [{"name": "llama3.1 causal 2k", "scores": "causal", "impl": {}}]}}
        self.setup.rows, self.setup.quick = "^llama3.1 causal (2|4)k", False
        benchmark.WORKER = self.script("worker", """
print(json.dumps({"torch": "0", "copy_gb_per_s": 1}), flush=True)
for line in sys.stdin: print(json.dumps(dict(json.loads(line), impl={}, fresh=True)), flush=True)
""")
        right, said = self.step("benchmark")
        self.assertTrue(right)
        self.assertEqual([("fresh" in row, row["name"]) for row in said["rows"]],
                         [(False, "llama3.1 causal 2k"), (True, "llama3.1 causal 4k")])

    def test_results_of_another_commit_go_and_those_of_this_one_stay(self):
        folder = pathlib.Path(self.folder.name)
        first = run.Results(folder, "A GPU", {"commit": "1"})
        first.save("conformance", {"wrong": 0})
        self.assertEqual(run.Results(folder, "A GPU", {"commit": "1"}).data["conformance"], {"wrong": 0})
        self.assertNotIn("conformance", run.Results(folder, "A GPU", {"commit": "2"}).data)
        run.Results(folder, "A GPU", {"commit": ""}).save("conformance", {"wrong": 0})
        self.assertNotIn("conformance", run.Results(folder, "A GPU", {"commit": ""}).data, "no commit is no promise")
        self.assertEqual(json.loads((folder / "a_gpu.json").read_text())["device"], "A GPU")

    def test_children_find_nvrtc_of_the_interpreter_that_runs(self):
        self.script("tilewright", """
if "--json" in sys.argv:
    print(json.dumps({"cuda": {"driver": "13", "nvrtc": "13", "devices": [{"name": "Fake", "architecture": "sm_90a"}]}}))
else:
    print("right 0 " + os.environ["VIRTUAL_ENV"])
""")
        for already, expected in (("", sys.prefix), ("/some/venv", "/some/venv")):
            done = subprocess.run([sys.executable, children.ROOT / "bench/gpu/run.py", "--build", self.folder.name, "--out",
                                   self.folder.name, "--only", "conformance"], capture_output=True, text=True,
                                  env={**os.environ, "VIRTUAL_ENV": already})
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            kept = json.loads((pathlib.Path(self.folder.name) / "fake.json").read_text())
            self.assertEqual(kept["conformance"]["cases"][0]["what"], expected)

    def test_the_commit_of_a_packed_build_is_beside_it(self):
        with unittest.mock.patch("shutil.which", return_value=None):
            self.assertEqual(run.commit_of(self.setup.build), "")
            (self.setup.build / "commit").write_text("abc1234\n")
            self.assertEqual(run.commit_of(self.setup.build), "abc1234")

    def test_without_pytorch_the_benchmark_is_missing_and_not_right(self):
        benchmark.WORKER = self.script("worker", "print(json.dumps({'skipped': 'python3 has no PyTorch'}))")
        self.assertTrue(self.step("benchmark")[0])
        self.assertIn("python3 has no PyTorch", self.setup.incomplete[0])
        self.setup.emulated, self.setup.incomplete = True, []
        self.assertTrue(self.step("benchmark")[0])
        self.assertEqual(self.setup.incomplete, [], "a rehearsal measures nothing")

    def test_visited_scores_are_those_of_the_tiles_of_the_schedule_that_ran(self):
        def by_hand(shape, keep, block_q, block_kv):
            sq, sk, visited = shape[3], shape[4], 0
            for q in range(0, sq, block_q):
                for kv in range(0, sk, block_kv):
                    rows, keys = range(q, min(q + block_q, sq)), range(kv, min(kv + block_kv, sk))
                    visited += len(rows) * len(keys) if any(keep(i, j) for i in rows for j in keys) else 0
            return visited
        shape = (1, 2, 2, 2200, 2200, 64, 64)
        keeps = {"full": lambda i, j: True, "causal": lambda i, j: j <= i, "window": lambda i, j: i - 1023 <= j <= i,
                 "documents": lambda i, j: j <= i and i // 1024 == j // 1024}
        for scores, keep in keeps.items():
            for tile in ((192, 128), (128, 176)):
                self.assertEqual(graphs.visited_scores(shape, scores, *tile), by_hand(shape, keep, *tile), (scores, tile))
        self.assertEqual(graphs.visited_scores(shape, "causal", 1, 1), 2200 * 2201 // 2)
        row = {"shape": shape, "scores": "window", "taken": [
            {"fused": False, "schedule": "loop: block_q 1, block_kv 1"},
            {"fused": True, "schedule": "sm90_prefill: block_q 128, block_kv 176, warps 12"}]}
        self.assertEqual(bars.visited_of(row), 2 * graphs.visited_scores(shape, "window", 128, 176))

    def test_bars_are_judged_and_a_missed_one_is_no_wrong_result(self):
        what = """
taken = [{"template": "sm90_prefill", "fused": True, "schedule": "sm90_prefill: block_q 128, block_kv 128", "passed_over": []}]
print(json.dumps({"torch": "0", "copy_gb_per_s": 1000}), flush=True)
for line in sys.stdin:
    row = json.loads(line)
    speed = {"window 8k": 0.5}.get(row["name"], 1)
    work = {"window 8k": 1 / 4.2, "full 8k": 4096 / 2080}.get(row["name"], 1)  # of the tiles that causal visits
    ours = {"tflops": 400 * speed, "ms": work / speed, "gb_per_s": 790 if "16" in row["name"] else 810}
    row.update(taken=taken, impl={"ours": ours, "sdpa_cudnn": {"tflops": 500, "ms": 2}, "flex": {"tflops": 300, "ms": 2}})
    if row["name"] == "softcap 8k": row["failed"] = ["its largest error is too large"]
    if row["name"] == "suite 25_sigmoid": row["impl"]["flex"] = {"skipped": "a softmax's"}
    print(json.dumps(row), flush=True)
"""
        benchmark.WORKER, self.setup.quick = self.script("worker", what), False
        _, result = self.step("benchmark")
        met = {(each["row"], each["bar"]): each["met"] for each in result["bars"]}
        self.assertIs(met["llama3.1 causal 8k", "of cuDNN, first mark"], True)
        self.assertIs(met["llama3.1 causal 8k", "of cuDNN, goal"], False)
        self.assertIs(met["decode batch 16", "of a copy's bandwidth"], False)
        self.assertIs(met["decode batch 64", "of a copy's bandwidth"], True)
        self.assertAlmostEqual(result["per_score_over_plain"]["causal"], 0)
        self.assertNotIn(("decode batch 1", "of a copy's bandwidth"), met)
        self.assertIs(met["window 8k", "of compiled flex_attention"], False)
        self.assertIs(met["window 8k", "per visited score, over plain"], False)
        self.assertIs(met["alibi 8k", "per visited score, over plain"], True)
        self.assertIsNone(met["softcap 8k", "per visited score, over plain"], "it failed: no figure")
        self.assertIs(met["suite 16_natten_2d", "of compiled flex_attention"], True)
        self.assertNotIn(("suite 25_sigmoid", "of compiled flex_attention"), met)
        self.assertNotIn(("llama3.1 full 2k", "of compiled flex_attention"), met)
        self.assertTrue(any("MISSED: window 8k" in line for line in said))
        benchmark.WORKER = self.script("worker", what.replace('if row["name"] == "softcap 8k"', "if False"))
        self.assertTrue(self.step("benchmark")[0], "missed bars are figures, not errors")

    def test_the_rows_are_those_of_the_performance_page_and_every_variant(self):
        rows = benchmark.shapes(False, False)
        self.assertEqual(len({row["name"] for row in rows}), len(rows))
        self.assertEqual({row["scores"] for row in rows}, set(graphs.KINDS))
        for d, lengths in ((192, {2048, 4096, 8192}), (64, {16384}), (256, {16384})):
            of = [row for row in rows if row["shape"][5] == d and not row["name"].startswith("suite")]
            self.assertEqual({row["shape"][3] for row in of}, lengths)
            self.assertEqual({row["scores"] for row in of}, {"causal"} if d == 192 else {"causal", "full"})
        for kind in graphs.SUITE:
            text = graphs.attention(None, kind)
            self.assertEqual(len(re.findall(r"%[qkv]: bf16\[", text)), 3, kind)
            self.assertRegex(text, r"%o = matmul %weights, %vh? : bf16")

    def dev(self, apt_get):
        """./dev gpu --pack in a folder of its own, with tools that only write down how they were called."""
        folder = pathlib.Path(self.folder.name) / "tree"
        folder.mkdir(exist_ok=True)
        shutil.copy(children.ROOT / "dev", folder / "dev")
        (folder / "bin").mkdir(exist_ok=True)
        for name in ("cmake", "dpkg-query", "sudo", "ldd", *(["apt-get"] if apt_get else [])):
            tool = folder / "bin" / name
            last = apt_get if name == "apt-get" else 'exec "$@"' if name == "sudo" else "true"
            tool.write_text(f'#!/bin/bash\necho "{name} $*" >>"{folder}/log"\n{last}\n')
            tool.chmod(0o755)
        for name in ("bash", "dirname", "id", "git", "grep", "mkdir", "rm", "ls", "awk", "sort", "xargs", "env"):
            if not (folder / "bin" / name).exists():
                (folder / "bin" / name).symlink_to(shutil.which(name))
        done = subprocess.run([shutil.which("bash"), folder / "dev", "gpu", "--pack"], capture_output=True, text=True,
                              env={"PATH": str(folder / "bin")})
        return done, (folder / "log").read_text()

    def test_the_build_without_llvm_asks_for_no_llvm(self):
        done, log = self.dev("true")
        self.assertIn("apt-get install -y -qq --no-install-recommends build-essential", log)
        self.assertNotIn("llvm-19", log)
        self.assertNotIn("apt-get did not install", done.stderr)

    def test_a_machine_without_the_packages_is_told_what_to_do(self):
        for apt_get in ("", "exit 100"):
            done, log = self.dev(apt_get)
            self.assertRegex(done.stderr, r"apt-get did not install build-essential cmake.*libfmt-dev.*--pack.*--built")
            self.assertIn("cmake --build --preset no-llvm", log, "the build says what it really lacks")


if __name__ == "__main__":
    unittest.main()
