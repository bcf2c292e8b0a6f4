#!/usr/bin/env python3
"""run.py where kernels hang, crash and fall back, which no machine here has a GPU to show: over a CLI and a worker that do
so on demand."""
import json
import pathlib
import sys
import tempfile
import types
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import run  # noqa: E402

run.say = lambda text: None


class Steps(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.saved = []
        self.setup = types.SimpleNamespace(
            target="cuda", architecture="sm_90a", emulated=False, quick=True, limit=1e9, jobs=2, rows="", resume=False,
            before={}, build=pathlib.Path(self.folder.name), cli=self.script("tilewright", ""))

    def script(self, name, text):
        path = pathlib.Path(self.folder.name) / name
        path.write_text("#!/usr/bin/env python3\nimport json, os, sys, time\n" + text)
        path.chmod(0o755)
        return path

    def step(self, name):
        return run.__dict__[name](self.setup, self.saved.append), self.saved[-1]

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
print(json.dumps({{"steps": [{{"template": "{template}", "passed_over": ["sm90_prefill: a stride"]}}], "accuracy": []}}))
""")
        return self.step("numerics")

    def test_a_fall_back_is_wrong_where_a_fast_template_was_expected(self):
        right, rows = self.numerics("generic")
        self.assertFalse(right)
        wrong = [row for row in rows if row["exit_code"] == 1]
        self.assertEqual(len(wrong), 12, "the benchmark's graphs; any template may run the variants")
        self.assertIn("sm90_prefill was expected", wrong[0]["why"])
        self.assertTrue(self.numerics("sm90_prefill")[0])

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
        classes = run.tuned_shapes(False, False)
        self.assertLess(len(classes), len(run.shapes(False, False)))
        self.assertEqual(len({name for name, _, _ in classes}), len(classes))
        self.assertEqual({scores for _, _, scores in classes}, set(run.SCORES))

    def benchmark(self, what):
        self.setup.quick = False
        self.setup.rows = "^llama3.1 causal"
        run.ROW_SECONDS = 10
        run.WORKER = self.script("worker", """
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
        run.WORKER = self.script("worker", """
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
        self.assertEqual(json.loads((folder / "a_gpu.json").read_text())["device"], "A GPU")


if __name__ == "__main__":
    unittest.main()
