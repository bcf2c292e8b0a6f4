// `tilewright tune` as a user meets it.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <nlohmann/json.hpp>

#include "tests/support/paths.h"
#include "tests/support/temporary_folder.h"

namespace {

using tilewright::testing::read_file;
using tilewright::testing::write_file;
using Json = nlohmann::json;

constexpr const char* kGraph =
    R"(graph @small(%q: f32[B,2,Sq,32], %k: f32[B,2,Sk,32], %v: f32[B,2,Sk,32]) -> f32[B,2,Sq,32] {
  %s = matmul_nt %q, %k : f32[B,2,Sq,Sk]
  %p = softmax %s, axis=3 : f32[B,2,Sq,Sk]
  %o = matmul %p, %v : f32[B,2,Sq,32]
  return %o
})";

class Tune : public ::testing::Test {
 protected:
  struct Outcome {
    int code = -1;
    std::string out, err;
  };
  Outcome run(const std::string& arguments, const std::string& environment = "") const {
    const std::string out = folder_.path() + "/stdout", err = folder_.path() + "/stderr";
    const int status = std::system(
        (environment + " " + tilewright::testing::cli_path() + " " + arguments + " >" + out + " 2>" + err).c_str());
    return {WEXITSTATUS(status), read_file(out), read_file(err)};
  }
  std::string graph() const {
    write_file(folder_.path() + "/g.attn", kGraph);
    return folder_.path() + "/g.attn";
  }
  std::string database() const { return folder_.path() + "/t.json"; }
  /// Exit code 2, nothing on stdout, one line on stderr with this in it.
  void expect_sentence(const Outcome& outcome, const std::string& part) const {
    EXPECT_EQ(outcome.code, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
  }
  const std::string quick_ = " --dim Sq=48 --dim Sk=100 --candidates 3 --budget 3 --threads 1";
  tilewright::testing::TemporaryFolder folder_;
};

TEST_F(Tune, SearchesPrintsAndKeeps) {
  const Outcome tuned = run("tune " + graph() + quick_ + " --db " + database());
  EXPECT_EQ(tuned.code, 0) << tuned.err;
  for (const char* part : {"prefill ", "decode ", "3 compiled and checked, 0 of them wrong", "kept in "})
    EXPECT_NE(tuned.out.find(part), std::string::npos) << part << " in\n" << tuned.out;
  // Not a terminal: plain lines.
  EXPECT_NE(tuned.err.find("3 of 3 candidates left, best "), std::string::npos) << tuned.err;
  EXPECT_NE(tuned.err.find(" s left\n"), std::string::npos) << tuned.err;
  EXPECT_EQ(tuned.err.find('\r'), std::string::npos);
  EXPECT_EQ(tuned.err.find('\033'), std::string::npos);
  // Whatever won: another legal schedule in its place, so that it is told apart from the rules'.
  std::string text = read_file(database());
  const size_t at = text.find("\"block_q\": ", text.find("prefill ")) + 11;
  write_file(database(), text.replace(at, text.find(',', at) - at, "96"));
  const Outcome used =
      run("run " + graph() + " --dim Sq=48 --dim Sk=100 --repeat 1 --verify", "TILEWRIGHT_TUNING=" + database());
  EXPECT_EQ(used.code, 0) << used.err;
  EXPECT_NE(used.out.find("from the tuning database: tuned on "), std::string::npos) << used.out;
  const Outcome emitted = run("emit " + graph() + " --stage schedule", "TILEWRIGHT_TUNING=" + database());
  EXPECT_NE(emitted.out.find("because from the tuning database: tuned on "), std::string::npos) << emitted.out;
  EXPECT_NE(emitted.out.find(" times the rules' speed"), std::string::npos) << emitted.out;
  const Outcome ignored = run("run " + graph() + " --repeat 1", "TILEWRIGHT_TUNING=off");
  EXPECT_EQ(ignored.out.find("tuning database"), std::string::npos);
  EXPECT_EQ(run("emit " + graph() + " --stage schedule", "TILEWRIGHT_TUNING=off").out.find("tuned on"),
            std::string::npos);
}

TEST_F(Tune, JsonHoldsEveryMeasurement) {
  const Outcome tuned = run("tune --json " + graph() + quick_ + " --db " + database());
  ASSERT_EQ(tuned.code, 0) << tuned.err;
  EXPECT_EQ(tuned.err, "");
  const Json json = Json::parse(tuned.out);
  const Json& step = json[0]["steps"][0];
  EXPECT_EQ(step["candidates"].size(), 3u);
  EXPECT_FALSE(step["candidates"][0]["warm_s"].empty());
  EXPECT_EQ(json[0]["database"], database());
}

TEST_F(Tune, OneClearSentence) {
  const std::string file = graph();
  expect_sentence(run("tune " + file + " --budget 0"), "the budget is 0 seconds");
  expect_sentence(run("tune " + file + " --candidates 1"), "1 candidates are asked for");
  expect_sentence(run("tune " + file + quick_ + " --db /nowhere/t.json"), "/nowhere/t.json cannot be written");
  expect_sentence(run("tune " + file + " --dim Sq=0"), "computes nothing at B=1 Sk=512 Sq=0");
  expect_sentence(run("tune /nowhere.attn"), "tilewright: cannot read /nowhere.attn\n");
  expect_sentence(run("tune"), "nothing to tune: name a graph file, or --suite");
  expect_sentence(run("tune --suite --filter nothing-like-this"), "matches no shape");
  expect_sentence(run("tune --suite " + file), "no graph file goes with it");
  write_file(folder_.path() + "/p.attn", "graph @p(%x: f32[N]) -> f32[N] {\n  %y = exp %x : f32[N]\n  return %y\n}");
  expect_sentence(run("tune " + folder_.path() + "/p.attn"), "has nothing to tune");
  expect_sentence(run("tune " + file + " --target cuda-emu:sm_90a"), "the emulator has no clock");
  expect_sentence(run("tune " + file + " --target cuda-emu:sm_90a --budget 0"), "the budget is 0 seconds");
  expect_sentence(run("tune " + file + " --target gpu"), "--target gpu is not known; cpu and cuda are");
  expect_sentence(run("tune " + file + " --target cuda:99"), "there is no ");  // driver, or device
  expect_sentence(run("tune --target cuda-emu"), "nothing to tune: name a graph file");
  expect_sentence(run("tune --suite --target cuda"),
                  "--suite, --family, --threads, --report, --isa and --precision are");
  write_file(folder_.path() + "/mine.json", "{}");
  expect_sentence(run("tune " + file + quick_ + " --db " + folder_.path() + "/mine.json"), "is not overwritten");
}

TEST_F(Tune, WithoutACacheItSearchesAndSaysThatNothingIsKept) {
  const std::string cache = folder_.path() + "/cache";
  const std::string command = "tune " + graph() + " --dim Sq=48 --dim Sk=100 --candidates 2 --budget 3";
  const Outcome off = run(command, "TILEWRIGHT_TUNING= TILEWRIGHT_CACHE_DIR=off");
  EXPECT_EQ(off.code, 0) << off.err;
  EXPECT_NE(off.out.find("note: kept nowhere: there is no kernel cache to keep it in; use --db FILE"),
            std::string::npos)
      << off.out;
  EXPECT_EQ(mkdir(cache.c_str(), 0755), 0);
  const Outcome distrusted = run(command, "TILEWRIGHT_TUNING= TILEWRIGHT_CACHE_DIR=" + cache);
  EXPECT_EQ(distrusted.code, 0) << distrusted.err;
  EXPECT_NE(distrusted.out.find("note: kept nowhere: "), std::string::npos) << distrusted.out;
  // Distrust is one line in any command that compiles.
  const Outcome ran = run("run " + graph() + " --repeat 1", "TILEWRIGHT_CACHE_DIR=" + cache);
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(ran.err, "tilewright: the kernel cache is off: " + cache + " has mode 755; others must not get in (700)\n");
}

TEST_F(Tune, NoTimeIsSaidOnce) {
  const Outcome tuned = run("tune " + graph() + " --budget 0.001 --db " + database());
  EXPECT_EQ(tuned.code, 0) << tuned.err;
  EXPECT_NE(tuned.out.find("there was no time to measure one of "), std::string::npos) << tuned.out;
  for (const char* other : {"note:", "nothing is faster", "before the search did", "kept in"})
    EXPECT_EQ(tuned.out.find(other), std::string::npos) << other << " in\n" << tuned.out;
}

TEST_F(Tune, TakesAnIsaAndAPrecision) {
  const Outcome tuned = run("tune " + graph() + quick_ + " --no-twins --isa avx2 --precision bf16 --db " + database());
  EXPECT_EQ(tuned.code, 0) << tuned.err;
  EXPECT_NE(tuned.out.find("prefill avx2 | "), std::string::npos) << tuned.out;
  expect_sentence(run("tune " + graph() + " --isa foo"), "--isa foo is not known");
  expect_sentence(run("tune " + graph() + " --precision foo"), "--precision foo is not known");
  expect_sentence(run("tune --suite --precision bf16"), "--precision is for graph files");
}

TEST_F(Tune, AFileThatCannotBeUsedIsOneLineWhenAskedFor) {
  write_file(database(), "{ not json");
  const std::string command = "run " + graph() + " --repeat 1";
  const Outcome quiet = run(command, "TILEWRIGHT_TUNING=" + database());
  EXPECT_EQ(quiet.code, 0);
  EXPECT_EQ(quiet.err, "");
  const Outcome verbose = run(command, "TILEWRIGHT_VERBOSE=1 TILEWRIGHT_TUNING=" + database());
  EXPECT_NE(verbose.err.find("t.json is not used: it is no JSON"), std::string::npos) << verbose.err;
}

}  // namespace
