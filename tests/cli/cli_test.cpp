// The command line as a user meets it: exit codes, sentences, JSON, files.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "runtime/disk_cache.h"
#include "tests/support/paths.h"

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

struct Outcome {
  int code = -1;
  std::string out, err;
};

class Cli : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) /
              ("tilewright_cli_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return (folder_ / name).string();
  }
  static std::string read(const fs::path& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }
  static std::vector<std::string> lines(const std::string& text) {
    std::vector<std::string> out;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) out.push_back(line);
    return out;
  }
  Outcome run(const std::string& arguments, const std::string& environment = "") const {
    const std::string out = (folder_ / "stdout").string(), err = (folder_ / "stderr").string();
    const int status = std::system(
        (environment + " " + tilewright::testing::cli_path() + " " + arguments + " >" + out + " 2>" + err).c_str());
    return {WEXITSTATUS(status), read(out), read(err)};
  }
  /// An f32 NumPy file of zeros.
  std::string npy(const std::string& name, const std::string& shape, size_t count) const {
    std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }";
    header += std::string(63 - (10 + header.size()) % 64, ' ') + "\n";
    std::string text = "\x93NUMPY";
    text += {'\x01', '\0', static_cast<char>(header.size() & 255), static_cast<char>(header.size() >> 8)};
    return write(name, text + header + std::string(4 * count, '\0'));
  }

  fs::path folder_;
  const std::string graph_ = write_graph();

 private:
  static std::string write_graph() { return tilewright::testing::source_dir() + "/examples/variants/02_causal.attn"; }
};

TEST_F(Cli, GradientPrintsGraphsThatVerify) {
  const std::string forward = (folder_ / "f.attn").string(), backward = (folder_ / "b.attn").string();
  const Outcome files =
      run("gradient " + graph_ + " --wrt v,q --out-forward " + forward + " --out-backward " + backward);
  EXPECT_EQ(files.code, 0) << files.err;
  EXPECT_EQ(run("verify " + forward).code, 0);
  EXPECT_EQ(run("verify " + backward).code, 0);
  EXPECT_NE(files.out.find(read(backward)), std::string::npos);
  EXPECT_NE(read(backward).find("return %d_v, %d_q"), std::string::npos);
  const Json json = Json::parse(run("gradient --json --recompute " + graph_).out);
  EXPECT_EQ(json["saved"], Json::array());
  EXPECT_EQ(json["backward"].get<std::string>().substr(0, 5), "graph");
  const Outcome wrong = run("gradient " + graph_ + " --wrt w");
  EXPECT_EQ(wrong.code, 2);
  EXPECT_NE(wrong.err.find("%w"), std::string::npos) << wrong.err;
}

TEST_F(Cli, VerifyTellsGoodFromBad) {
  EXPECT_EQ(run("verify " + graph_).code, 0);
  const std::string bad =
      write("bad.attn", "graph @g(%q: f32[B,8]) -> f32[B,8] {\n  %o = frobnicate %q : f32[B,8]\n  return %o\n}\n");
  const Outcome outcome = run("verify " + bad);
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.err.find("line 2"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("frobnicate"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  const Outcome json = run("verify --json " + bad);
  EXPECT_EQ(json.code, 2);
  EXPECT_EQ(Json::parse(json.out)["errors"].size(), 1u);
  EXPECT_EQ(run("verify " + folder_.string() + "/nowhere.attn").code, 2);
}

TEST_F(Cli, BadCommandLinesAreCodeTwo) {
  EXPECT_EQ(run("").code, 2);
  EXPECT_EQ(run("launder").code, 2);
  EXPECT_EQ(run("run").code, 2);
  EXPECT_EQ(run("--help").code, 0);
  EXPECT_EQ(run("emit " + graph_ + " --stage sass").err.substr(0, 35), "tilewright: --stage sass is not kno");
  EXPECT_EQ(run("emit " + graph_ + " --target gpu").code, 2);
}

TEST_F(Cli, RunVerifies) {
  const Outcome outcome = run("run " + graph_ + " --dim Sq=70 --dim Sk=90 --verify --repeat 1 --json");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json json = Json::parse(outcome.out);
  EXPECT_EQ(json["dims"]["Sq"], 70);
  EXPECT_EQ(json["default_dims"]["B"], 1);
  EXPECT_EQ(json["fused_attentions"], 1);
  EXPECT_TRUE(json["verified"][0]["pass"]);
  const Outcome text = run("run " + graph_ + " --verify --repeat 1 --threads 1");
  EXPECT_EQ(text.code, 0);
  for (const char* word : {"fused", "template", "compile", "verified", "run", "memory"})
    EXPECT_NE(text.out.find(word), std::string::npos) << word;
}

TEST_F(Cli, PrecisionIsAskedForAndTold) {
  const std::string no_tiles = "TILEWRIGHT_MAX_ISA=avx512";
  const std::string sizes = " --dim Sq=70 --dim Sk=90 --verify --repeat 1";
  for (const char* policy : {"f32", "f32_fma", "f32_x3", "bf16"}) {
    const Outcome outcome = run("run " + graph_ + sizes + " --json --precision " + policy, no_tiles);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const Json json = Json::parse(outcome.out);
    EXPECT_EQ(json["precision"], policy);
    EXPECT_NE(json["steps"][0]["products"].get<std::string>().find("f32 products"), std::string::npos) << outcome.out;
    const Outcome fused = run("fuse " + graph_ + " --precision " + policy);
    EXPECT_EQ(fused.out.find("precision  " + std::string(policy)) == std::string::npos, std::string(policy) == "f32");
  }
  const Outcome text = run("run " + graph_ + sizes + " --precision bf16", no_tiles);
  EXPECT_NE(text.out.find("precision    bf16\n"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("computes f32 products"), std::string::npos) << text.out;
  const Outcome schedule = run("emit " + graph_ + " --stage schedule --precision f32_fma");
  EXPECT_NE(schedule.out.find("computes f32 products by FMA, as precision f32_fma asks"), std::string::npos);
  for (const char* command : {"run ", "emit ", "fuse "}) {
    const Outcome wrong = run(command + graph_ + " --precision tf32");
    EXPECT_EQ(wrong.code, 2);
    EXPECT_NE(wrong.err.find("--precision tf32 is not known; f32, f32_fma, f32_x3 and bf16 are"), std::string::npos);
  }
}

TEST_F(Cli, RunReadsAndWritesNumPy) {
  const std::string q = npy("q.npy", "(1, 8, 5, 64)", 8 * 5 * 64), k = npy("k.npy", "(1, 8, 9, 64)", 8 * 9 * 64);
  const std::string o = (folder_ / "o.npy").string();
  const Outcome outcome =
      run("run " + graph_ + " --input q=" + q + " --input k=" + k + " --output o=" + o + " --repeat 1 --json");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(Json::parse(outcome.out)["dims"]["Sk"], 9);
  const std::string written = read(o);
  EXPECT_NE(written.find("(1, 8, 5, 64)"), std::string::npos);
  EXPECT_EQ(written.size() % 64, 0u);
  const std::string other = (folder_ / "o2.npy").string();
  EXPECT_EQ(
      run("run " + graph_ + " --input q=" + q + " --input k=" + k + " --output o=" + other + " --repeat 1 --generic")
          .code,
      0);
}

TEST_F(Cli, RunWritesTheFinalStateOfInoutParameters) {
  const std::string graph = write("store.attn", R"(
graph @store(%rows: f32[2,3], inout %cache: f32[N,3]) -> f32[N,3] {
  %c = update %cache, %rows, 2, axis=0 : f32[N,3]
  %y = neg %c                          : f32[N,3]
  return %y
})");
  const std::string cache = npy("cache.npy", "(5, 3)", 15), untouched = read(cache);
  const auto numbers = [&](const std::string& name) {
    const std::string text = read(folder_ / name);
    std::vector<float> values(15);
    EXPECT_GE(text.size(), 60u) << name;
    if (text.size() >= 60) std::memcpy(values.data(), text.data() + text.size() - 60, 60);
    return values;
  };
  const Outcome outcome =
      run("run " + graph + " --input cache=" + cache + " --output y=" + (folder_ / "y.npy").string() +
          " --output cache=" + (folder_ / "after.npy").string() + " --repeat 3 --verify");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(read(cache), untouched);
  const std::vector<float> after = numbers("after.npy"), y = numbers("y.npy");
  for (size_t i = 0; i < 15; ++i) {
    EXPECT_EQ(y[i], -after[i]) << i;
    EXPECT_EQ(after[i] != 0, 6 <= i && i < 12) << i;
  }
  const Outcome wrong = run("run " + graph + " --output rows=x.npy");
  EXPECT_EQ(wrong.code, 2);
  EXPECT_NE(wrong.err.find("names %rows, which is no result and no inout parameter; the graph returns %y and writes "
                           "%cache"),
            std::string::npos)
      << wrong.err;
}

TEST_F(Cli, BadInputsAreOneSentenceAndNothingIsWritten) {
  const std::string q = npy("q.npy", "(1, 8, 5, 64)", 8 * 5 * 64), o = (folder_ / "o.npy").string();
  const std::string cut = write("cut.npy", read(q).substr(0, 200)), flat = npy("flat.npy", "(8, 5, 64)", 8 * 5 * 64);
  const std::string odd = npy("odd.npy", "(2, 8, 5, 64)", 2 * 8 * 5 * 64);
  const std::string start = "run " + graph_ + " --output o=" + o + " --input q=";
  const auto says = [&](const std::string& command, const std::string& sentence) {
    const Outcome outcome = run(command);
    EXPECT_EQ(outcome.code, 2) << command;
    EXPECT_NE(outcome.err.find(sentence), std::string::npos) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_FALSE(fs::exists(o));
  };
  says(start + cut, "is truncated");
  says(start + flat, "rank 3, expected 4");
  says(start + q + " --dim Sq=6", "axis 2 of its file has size 5, expected Sq (Sq = 6 from --dim)");
  says(start + q + " --input k=" + odd, "axis 0 of its file has size 2, expected B (B = 1 from %q)");
  says(start + q + " --input z=" + q, "names %z, which is no parameter");
  says(start + "nowhere.npy", "cannot read nowhere.npy");
  says("run " + graph_ + " --dim Sq=-1", "dim Sq has the negative size -1");
  says("run " + graph_ + " --dim Sq=1 --dim Sq=2", "dim Sq is given two sizes, 1 and 2");
  says("run " + graph_ + " --dim Sq=99999999999999999999", "overflows 64 bits");
  says("run " + graph_ + " --dim Sq=4611686018427387904", "overflows 64 bits");
  says("run " + graph_ + " --dim X=4", "names X, which is no dim");
  says("run " + graph_ + " --output nope=" + o, "names %nope, which is no result");
  says("run " + graph_ + " --workspace-limit 10", "the workspace limit is 10 bytes");
}

TEST_F(Cli, EmitPrintsEveryStage) {
  const auto emit = [&](const std::string& options) {
    const Outcome outcome = run("emit " + graph_ + " " + options);
    EXPECT_EQ(outcome.code, 0) << options << outcome.err;
    return outcome.out;
  };
  EXPECT_NE(emit("--stage input").find("mask_causal"), std::string::npos);
  EXPECT_EQ(emit("--stage canonical").find("mask_causal"), std::string::npos);
  EXPECT_NE(emit("--stage fused").find("attention @causal"), std::string::npos);
  EXPECT_NE(emit("--stage schedule --target cpu-avx2").find("avx2"), std::string::npos);
  EXPECT_NE(emit("--stage ll --target cpu-avx512").find("define"), std::string::npos);
  EXPECT_NE(emit("--stage asm --target cpu-avx512").find("zmm"), std::string::npos);
  EXPECT_EQ(emit("--stage asm --target cpu-avx2").find("zmm"), std::string::npos);
  EXPECT_EQ(Json::parse(emit("--stage tile --json"))["files"].size(), 1u);
}

TEST_F(Cli, FuseSaysWhatDidNot) {
  EXPECT_NE(run("fuse " + graph_).out.find("attention @causal"), std::string::npos);
  EXPECT_TRUE(Json::parse(run("fuse --json " + graph_).out)["not_fused"].empty());
  const std::string plain = write(
      "plain.attn", "graph @g(%x: f32[B,8]) -> f32[B,8] {\n  %p = softmax %x, axis=1 : f32[B,8]\n  return %p\n}\n");
  EXPECT_EQ(run("fuse " + plain).code, 0);
  const Outcome strict = run("run " + plain + " --require-fused");
  EXPECT_EQ(strict.code, 2);
  EXPECT_NE(strict.err.find("%p"), std::string::npos) << strict.err;
  EXPECT_EQ(run("run " + plain + " --verify --repeat 1").code, 0);
}

TEST_F(Cli, DumpAndDevices) {
  const Outcome dumped = run("run " + graph_ + " --repeat 1 --json --dump " + (folder_ / "dump").string());
  ASSERT_EQ(dumped.code, 0) << dumped.err;
  const fs::path kernel = Json::parse(dumped.out)["dump"].get<std::string>();
  const Json manifest = Json::parse(read(kernel / "manifest.json"));
  EXPECT_EQ(manifest["fused_attentions"], 1);
  EXPECT_GT(manifest["kernels"][0]["code_bytes"], 0);
  EXPECT_EQ(run("verify " + (kernel / "01_canonical.graph").string()).code, 0);
  EXPECT_TRUE(Json::parse(run("devices --json").out).contains("isa"));
}

TEST_F(Cli, BenchFailsWhereAnotherTemplateRuns) {
  // Without measuring anything: these shapes take the generic templates minutes.
  for (const char* row : {"backward f32, 1 thread/h8 d64 S4096 full", "backward, gradient of a bias",
                          "speed f32, 1 thread/h8 d64 S4096 full"}) {
    const Outcome outcome = run("bench --json --generic --filter '" + std::string(row) + "'");
    EXPECT_EQ(outcome.code, 1) << outcome.err;
    const Json json = Json::parse(outcome.out);
    EXPECT_FALSE(json["rows"].empty());
    for (const Json& each : json["rows"]) {
      EXPECT_EQ(each["verdict"], "void");
      EXPECT_EQ(each["template"], "generic");
      EXPECT_NE(each["fall_back"].get<std::string>().find("generic ran"), std::string::npos) << each.dump();
    }
  }
}

TEST_F(Cli, BenchNamesRowsThatThisMachineCannotRun) {
  const Outcome outcome = run("bench --filter 'AMX peak' --seconds 0", "TILEWRIGHT_MAX_ISA=avx2");
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("AMX peak bf16, 1 thread       skipped: this CPU lacks amx_bf16"), std::string::npos)
      << outcome.out;
  EXPECT_NE(outcome.out.find("bars: 0 met, 0 missed, 0 void, 2 skipped"), std::string::npos) << outcome.out;
}

TEST_F(Cli, BenchComparesKeptRuns) {
  // A real run of a row that takes no time, with a spread that does not depend on the machine, then the same with a
  // planted slow-down.
  const Outcome measured = run("bench --filter memory-cache --seconds 0 --json");
  ASSERT_LE(measured.code, 1) << measured.err;
  Json json = Json::parse(measured.out);
  json["rows"][0]["bar"]["target"] = 1e9;
  for (const char* figure : {"ms", "value"}) {
    const double median = json["rows"][0][figure]["median"];
    json["rows"][0][figure]["low"] = median * 0.99;
    json["rows"][0][figure]["high"] = median * 1.01;
  }
  const std::string old = write("old.json", json.dump());
  for (const char* figure : {"ms", "value"})
    for (const char* part : {"median", "low", "high"}) {
      const double value = json["rows"][0][figure][part];
      json["rows"][0][figure][part] = value * 10;
    }
  const std::string slow = write("slow.json", json.dump());
  EXPECT_EQ(run("bench --from " + old).code, 0);
  EXPECT_EQ(run("bench --from " + old + " --compare " + old).code, 0);
  const Outcome slower = run("bench --from " + slow + " --compare " + old);
  EXPECT_EQ(slower.code, 1);
  EXPECT_NE(slower.out.find("SLOWER"), std::string::npos) << slower.out;
  EXPECT_EQ(run("bench --from " + old + " --compare " + slow).code, 0);
  const Outcome as_json = run("bench --json --from " + slow + " --compare " + old);
  EXPECT_EQ(as_json.code, 1);
  EXPECT_EQ(Json::parse(as_json.out)["comparison"]["rows"][0]["outcome"], "slower");
  EXPECT_NE(run("bench --csv --from " + old).out.find("\r\ncompile,memory-cache hit,met,"), std::string::npos);
  for (const std::string& line : lines(run("bench --from " + old).out)) EXPECT_LE(line.size(), 120u) << line;
}

TEST_F(Cli, BenchRefusesFilesThatAreNoRuns) {
  const std::string foreign = write("foreign.json", R"({"rows": []})"), cut = write("cut.json", "{\"format\": \"ti");
  const auto says = [&](const std::string& options, const std::string& sentence) {
    const Outcome outcome = run("bench --filter memory-cache " + options);
    EXPECT_EQ(outcome.code, 2) << options;
    EXPECT_NE(outcome.err.find(sentence), std::string::npos) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out.empty(), options.find("--json") == std::string::npos) << outcome.out;
  };
  says("--compare " + folder_.string() + "/none.json", "cannot read " + folder_.string() + "/none.json");
  says("--compare " + foreign, "foreign.json holds no run of tilewright bench: it has no format");
  says("--compare " + cut, "cut.json is not JSON from byte");
  says("--from " + cut, "cut.json is not JSON from byte");
  says("--json --csv", "--json and --csv both want stdout");
  says("--compare " + folder_.string(), "cannot read " + folder_.string() + ": it is a folder");
  says("--seconds -1", "--seconds is -1; 0 to 3600 will do");
}

TEST_F(Cli, TuneWritesAReport) {
  const std::string page = (folder_ / "out.html").string(), database = (folder_ / "tuned.json").string();
  const std::string small = " --dim Sq=96 --dim Sk=96 --budget 5 --candidates 3 --threads 1 --db " + database;
  const Outcome outcome = run("tune " + graph_ + small + " --report " + page);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("report in " + page), std::string::npos) << outcome.out;
  const std::string html = read(page);
  EXPECT_EQ(html.substr(0, 15), "<!DOCTYPE html>");
  for (const char* what : {"Tuning of <code>@", "Roofline", "Landscape", "kernel's assembly", "vfmadd"})
    EXPECT_NE(html.find(what), std::string::npos) << what;
  EXPECT_EQ(html.find("<script"), std::string::npos);
  const Outcome nowhere = run("tune " + graph_ + small + " --report " + folder_.string() + "/no/out.html");
  EXPECT_EQ(nowhere.code, 2);
  EXPECT_EQ(nowhere.err,
            "tilewright: cannot write the report to " + folder_.string() + "/no/out.html: No such file or directory\n");
}

TEST_F(Cli, BenchRefusesUnknownRows) {
  const Outcome outcome = run("bench --filter nothing-like-it");
  EXPECT_EQ(outcome.code, 2);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err, "tilewright: --filter nothing-like-it matches no row\n");
}

TEST_F(Cli, TheCacheIsListedAndVerifiedWithoutBeingMade) {
  const std::string dir = (folder_ / "cache").string();
  for (const char* what : {"ls", "verify", "prune"}) {
    const Outcome missing = run("cache " + std::string(what) + " --dir " + dir);
    EXPECT_EQ(missing.code, 2);
    EXPECT_EQ(missing.err, "tilewright: there is no folder " + dir + "\n");
    EXPECT_EQ(run("cache " + std::string(what), "TILEWRIGHT_CACHE_DIR=" + dir).code, 0);  // nothing was kept yet
    EXPECT_FALSE(fs::exists(dir));
  }
  ASSERT_EQ(run("run " + graph_ + " --repeat 1", "TILEWRIGHT_CACHE_DIR=" + dir).code, 0);
  const Outcome listed = run("cache ls --dir " + dir);
  EXPECT_NE(listed.out.find(" | attention f32[B,8,Sq,64] f32[B,8,Sk,64] f32[B,8,Sk,64]\n"), std::string::npos)
      << listed.out;
  const Json json = Json::parse(run("cache ls --json --dir " + dir).out);
  EXPECT_NE(json["entries"][0]["key"].get<std::string>().find("%t0: f32[B,8,Sq,64]"), std::string::npos);
  EXPECT_EQ(run("cache verify --dir " + dir).code, 0);
  // A sound file around something that is no kernel, or whose code is damaged.
  using tilewright::DiskCache;
  const DiskCache cache = DiskCache::open(dir);
  const std::string key = json["entries"][0]["key"], good = *cache.find(key).payload;
  const size_t code = good.find('\0') + 1;
  for (const std::string& bad : {std::string("{}"), good.substr(0, code) + std::string(good.size() - code, 'x')}) {
    ASSERT_TRUE(cache.store(key, bad));
    const Outcome verified = run("cache verify --dir " + dir);
    EXPECT_EQ(verified.code, 1);
    EXPECT_NE(verified.out.find("UNSOUND: "), std::string::npos) << verified.out;
    const Outcome ran = run("run " + graph_ + " --repeat 1", "TILEWRIGHT_VERBOSE=1 TILEWRIGHT_CACHE_DIR=" + dir);
    EXPECT_EQ(ran.code, 0);
    EXPECT_NE(ran.err.find(" on disk is not used: "), std::string::npos) << ran.err;
  }
  EXPECT_EQ(run("cache verify --dir " + dir).code, 0) << "compiled anew and replaced";
}

TEST_F(Cli, DevicesAndRunSpeakPlainly) {
  const Outcome unknown = run("devices", "TILEWRIGHT_MAX_ISA=foo");
  EXPECT_EQ(unknown.code, 2);
  EXPECT_EQ(unknown.err, "tilewright: TILEWRIGHT_MAX_ISA is none of avx2, avx512 and amx\n");
  EXPECT_EQ(run("devices").out.find("not used yet"), std::string::npos);
  const Outcome prefill = run("run " + graph_ + " --repeat 1"),
                decode = run("run " + graph_ + " --repeat 1 --dim Sq=1");
  EXPECT_NE(prefill.out.find("decode is compiled for Sq <= 16\n"), std::string::npos) << prefill.out;
  EXPECT_NE(decode.out.find("prefill is compiled for other sizes\n"), std::string::npos) << decode.out;
}

TEST_F(Cli, BenchCompileRefusesUnknownKernelsAndOtherFormats) {
  const Outcome json = run("bench --compile --json"), nothing = run("bench --compile --filter nothing-like-it");
  EXPECT_EQ(json.code, 2);
  EXPECT_NE(json.err.find("--compile prints a table"), std::string::npos) << json.err;
  EXPECT_EQ(nothing.code, 2);
  EXPECT_TRUE(nothing.err.find("matches no kernel") != std::string::npos ||
              nothing.err.find("NVRTC") != std::string::npos)
      << nothing.err;
}

TEST_F(Cli, RunsGpuKernelsOnTheEmulatorAndProvesThem) {
  const Outcome done = run("run " + graph_ + " --target cuda-emu --dim Sq=9 --dim Sk=11 --verify --json");
  if (done.err.find("C++ compiler") != std::string::npos) GTEST_SKIP() << done.err;
  ASSERT_EQ(done.code, 0) << done.err;
  const Json json = Json::parse(done.out);
  EXPECT_EQ(json["target"], "the emulator of sm_80");
  EXPECT_EQ(json["passed"], true);
  EXPECT_EQ(json["accuracy"].size(), 1u);
  EXPECT_EQ(json["steps"][0]["fused"], true);
  EXPECT_FALSE(json["steps"][0]["refused"].empty());
  EXPECT_EQ(json["emulated"]["executions"], 2);
  EXPECT_GT(json["emulated"]["shared_loads"]["accesses"], 0);
}

TEST_F(Cli, EmulatedRunsWriteTheirOutputsAndDumpAsTheEnvironmentSays) {
  const std::string arguments = "run " + graph_ + " --target cuda-emu --dim Sq=9 --dim Sk=11 --verify",
                    npy = (folder_ / "o.npy").string(), again = (folder_ / "again.npy").string();
  const auto with_output = [&](const std::string& file) { return arguments + " --output o=" + file; };
  const Outcome done = run(with_output(npy) + " --executions 3", "TILEWRIGHT_DUMP=" + (folder_ / "dump").string());
  if (done.err.find("C++ compiler") != std::string::npos) GTEST_SKIP() << done.err;
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_NE(done.out.find("3 executions, the same to the bit"), std::string::npos) << done.out;
  EXPECT_TRUE(read(npy).starts_with("\x93NUMPY"));
  ASSERT_EQ(run(with_output(again) + " --executions 1").code, 0);
  EXPECT_EQ(read(npy), read(again));
  ASSERT_TRUE(fs::exists(folder_ / "dump"));
  EXPECT_TRUE(fs::exists(fs::directory_iterator(folder_ / "dump")->path() / "05_emit.cu"));
}

TEST_F(Cli, EmitsTheTextOfGpuKernels) {
  const Outcome text = run("emit " + graph_ + " --target cuda:sm_90a --stage cu");
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_TRUE(text.out.starts_with("// t0 is %")) << text.out.substr(0, 80);
  EXPECT_NE(text.out.find("TW_KERNEL("), std::string::npos);
}

TEST_F(Cli, GpuTargetsThatCannotBeHadAreOneSentence) {
  for (const auto& [arguments, part] :
       {std::pair{"run " + graph_ + " --target cuda-emu:sm_70", "sm_70 is not known"},
        {"run " + graph_ + " --target gpu", "--target gpu is not known"},
        {"run " + graph_ + " --target cuda:99", "cuda"},
        {"run " + graph_ + " --target cuda-emu --isa avx2", "--isa"},
        {"run " + graph_ + " --target cuda-emu --repeat 3", "--repeat"},
        {"run " + graph_ + " --target cuda-emu --threads 2", "--threads"},
        {"run " + graph_ + " --target cuda-emu --workspace-limit 9", "--workspace-limit"},
        {"run " + graph_ + " --target cuda-emu --executions -1", "--executions is -1"},
        {"run " + graph_ + " --executions 2", "--executions is the emulator's"},
        {"emit " + graph_ + " --target cuda --stage cu", "cuda:sm_90a"},
        {"emit " + graph_ + " --target cuda:sm_80 --stage ll", "--stage ll"}}) {
    const Outcome done = run(arguments);
    EXPECT_EQ(done.code, 2) << arguments;
    EXPECT_NE(done.err.find(part), std::string::npos) << done.err;
    EXPECT_EQ(lines(done.err).size(), 1u) << done.err;
  }
}

TEST_F(Cli, DevicesSayWhatOfCudaIsThere) {
  const Outcome done = run("devices --json");
  ASSERT_EQ(done.code, 0) << done.err;
  const Json cuda = Json::parse(done.out)["cuda"];
  EXPECT_TRUE(cuda["nvrtc"].contains("version") || cuda["nvrtc"].contains("missing"));
  EXPECT_TRUE(cuda["driver"].contains("file") || cuda["driver"].contains("missing"));
}

}  // namespace
