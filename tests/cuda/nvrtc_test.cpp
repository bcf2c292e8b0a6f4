// Finding and loading NVRTC, and text → cubin.
#include <algorithm>
#include <filesystem>

#include "runtime/cuda/compile_cuda.h"
#include "tests/cuda/cuda_support.h"
#include "tests/cuda/fake_libraries.h"
#include "tests/support/temporary_folder.h"

namespace tilewright {
namespace {

namespace fs = std::filesystem;
using testing::read_file;
using testing::TemporaryFolder;

constexpr const char* kScale = R"(
extern "C" __global__ void scale(float* x, float by) { x[threadIdx.x] *= by; }
)";

const CudaTarget& sm80() { return cuda_targets()[0]; }

TEST(Nvrtc, CandidatesComeFromTheFolderThatIsNamedThenTheLoaderThenTheToolkitThenWheels) {
  const TemporaryFolder folder;
  const fs::path wheels = folder.path() + std::string("/lib/python3.11/site-packages/nvidia");
  for (const char* file : {"cu13/lib/libnvrtc.so.13", "cuda_nvrtc/lib/libnvrtc.so.12"}) {
    fs::create_directories((wheels / file).parent_path());
    testing::write_file(wheels / file, "");
  }
  const std::string prefixes[] = {std::string(folder.path())};
  const auto candidates = nvrtc_candidates("/opt/cuda", prefixes);
  const auto position = [&](const std::string& file) {
    const auto at = std::find(candidates.begin(), candidates.end(), file);
    EXPECT_NE(at, candidates.end()) << file;
    return at - candidates.begin();
  };
  EXPECT_EQ(position("/opt/cuda/lib64/libnvrtc.so.13"), 0);
  EXPECT_LT(position("/opt/cuda/lib64/libnvrtc.so.12"), position("libnvrtc.so.13"));
  EXPECT_LT(position("libnvrtc.so.13"), position("libnvrtc.so.12"));
  EXPECT_LT(position("libnvrtc.so.12"), position("/usr/local/cuda/lib64/libnvrtc.so.13"));
  EXPECT_LT(position("/usr/local/cuda/lib64/libnvrtc.so.12"), position((wheels / "cu13/lib/libnvrtc.so.13").string()));
  EXPECT_LT(position((wheels / "cu13/lib/libnvrtc.so.13").string()),
            position((wheels / "cuda_nvrtc/lib/libnvrtc.so.12").string()));
}

TEST(Nvrtc, OfTheDriversVersionIsLookedForEverywhereBeforeANewerOne) {
  const auto newer_last = nvrtc_candidates("/opt/cuda", {}, 12), usual = nvrtc_candidates("/opt/cuda", {}, 13);
  const auto is_13 = [](const std::string& file) { return file.ends_with(".13"); };
  EXPECT_TRUE(std::ranges::is_partitioned(newer_last, std::not_fn(is_13)));
  EXPECT_TRUE(std::ranges::is_permutation(newer_last, usual));
  EXPECT_EQ(usual, nvrtc_candidates("/opt/cuda", {}));
}

TEST(Nvrtc, WithoutItOneSentenceSaysWhatWasLookedAtAndWhatToDo) {
  const std::string nowhere[] = {"/nowhere/libnvrtc.so.13", "libm.so.6"};
  const auto loaded = Nvrtc::load(nowhere);
  ASSERT_FALSE(loaded);
  const std::string sentence = to_string(loaded.error());
  for (const char* part :
       {"NVRTC 12 or 13", "/nowhere, the loader's path;", "libm.so.6 lacks nvrtcVersion", "CUDA_HOME"})
    EXPECT_NE(sentence.find(part), std::string::npos) << sentence;
  EXPECT_EQ(std::count(sentence.begin(), sentence.end(), '\n'), 0);
}

TEST(Nvrtc, OpensItsDeviceFunctionsByPathBeforeTheFirstCompile) {
  TILEWRIGHT_NEEDS_NVRTC();
  ASSERT_FALSE(nvrtc()->builtins().empty()) << nvrtc()->file();
  EXPECT_EQ(fs::path(nvrtc()->builtins()).parent_path(), fs::path(nvrtc()->file()).parent_path());
  const std::string maps = read_file("/proc/self/maps");
  EXPECT_NE(maps.find(fs::canonical(nvrtc()->builtins()).string()), std::string::npos);
}

TEST(Nvrtc, LoadsFromThePlaceWherePipPutsIt) {
  TILEWRIGHT_NEEDS_NVRTC();
  const TemporaryFolder folder;
  const fs::path lib = std::string(folder.path()) + "/lib/python3.12/site-packages/nvidia/cu13/lib";
  fs::create_directories(lib);
  const std::string soname = fmt::format("libnvrtc.so.{}", nvrtc()->major());
  fs::create_symlink(fs::canonical(nvrtc()->file()), lib / soname);
  const std::string prefixes[] = {std::string(folder.path())};
  const auto all = nvrtc_candidates("", prefixes);
  const std::string wheel[] = {all.back()};
  EXPECT_EQ(wheel[0], (lib / soname).string());
  const auto loaded = Nvrtc::load(wheel);
  ASSERT_TRUE(loaded) << to_string(loaded.error());
  EXPECT_EQ(loaded->version(), nvrtc()->version());
}

/// A toolkit's folder with a fake NVRTC of that version, and its builtins.
void make_toolkit(const fs::path& lib, int version, bool builtins = true) {
  fs::create_directories(lib);
  const std::string fake = testing::fake_library("libfake_nvrtc.so");
  fs::copy_file(fake, lib / fmt::format("libnvrtc.so.{}", version));
  if (builtins) fs::copy_file(fake, lib / fmt::format("libnvrtc-builtins.so.{}.{}", version, version == 12 ? 8 : 0));
}

TEST(FakeNvrtc, OfTheToolkitsFolderIsTakenTheNewerFirstEachWithItsBuiltins) {
  const TemporaryFolder folder;
  const fs::path home = std::string(folder.path());
  make_toolkit(home / "lib64", 12);
  const auto older = Nvrtc::load(nvrtc_candidates(home, {}));
  ASSERT_TRUE(older) << to_string(older.error());
  EXPECT_EQ(older->version(), "12.8");
  EXPECT_EQ(older->file(), (home / "lib64/libnvrtc.so.12").string());
  EXPECT_EQ(older->builtins(), (home / "lib64/libnvrtc-builtins.so.12.8").string());
  EXPECT_NE(read_file("/proc/self/maps").find(older->builtins()), std::string::npos);
  make_toolkit(home / "targets/x86_64-linux/lib", 13);
  const auto newer = Nvrtc::load(nvrtc_candidates(home, {}));
  ASSERT_TRUE(newer);
  EXPECT_EQ(newer->file(), (home / "targets/x86_64-linux/lib/libnvrtc.so.13").string());
}

TEST(FakeNvrtc, OfAnOlderVersionIsPassedOverAndNamed) {
  const TemporaryFolder folder;
  const fs::path home = std::string(folder.path());
  make_toolkit(home, 11);
  const std::string old[] = {home / "libnvrtc.so.11"};
  const auto loaded = Nvrtc::load(old);
  ASSERT_FALSE(loaded);
  EXPECT_NE(to_string(loaded.error()).find("libnvrtc.so.11 is version 11.0"), std::string::npos);
  make_toolkit(home / "lib", 12);
  const std::string both[] = {old[0], home / "lib/libnvrtc.so.12"};
  EXPECT_TRUE(Nvrtc::load(both));
}

TEST(FakeNvrtc, IsGivenOnlyTheOptionsThatItsVersionKnows) {
  const TemporaryFolder folder;
  const fs::path home = std::string(folder.path());
  for (const int version : {12, 13}) {
    make_toolkit(home / std::to_string(version), version);
    const std::string file[] = {home / std::to_string(version) / fmt::format("libnvrtc.so.{}", version)};
    const auto compiler = Nvrtc::load(file);
    ASSERT_TRUE(compiler);
    const auto binary = compile_cuda_text(kScale, *parse_cuda_target("sm_90a"), *compiler);
    ASSERT_TRUE(binary) << to_string(binary.error());
    EXPECT_NE(binary->cubin.find("--gpu-architecture=sm_90a"), std::string::npos);
    EXPECT_EQ(binary->cubin.find("--no-cache") != std::string::npos, version == 13);
  }
}

TEST(FakeNvrtc, WithoutAGeneratorItsBuiltinsOrMemorySaysSo) {
  const TemporaryFolder folder;
  const fs::path home = std::string(folder.path());
  make_toolkit(home, 12, false);
  const std::string file[] = {home / "libnvrtc.so.12"};
  const auto compiler = Nvrtc::load(file);
  ASSERT_TRUE(compiler);
  EXPECT_EQ(compiler->builtins(), "");
  const auto why = [&](const char* text, const char* architecture) {
    const auto binary = compile_cuda_text(text, *parse_cuda_target(architecture), *compiler);
    EXPECT_FALSE(binary);
    return binary ? "" : to_string(binary.error());
  };
  EXPECT_NE(why(kScale, "sm_120").find("NVRTC 12.8 (" + file[0] + ") has no code generator for sm_120: it knows sm_80"),
            std::string::npos);
  EXPECT_NE(why("builtins", "sm_80").find("has no libnvrtc-builtins.so.12.8 beside it"), std::string::npos);
  EXPECT_NE(why("memory", "sm_80").find("NVRTC 12.8 failed for sm_80: what NVRTC says"), std::string::npos);
}

TEST(CompileCuda, GivesCubinPtxLogAndTimeForEveryArchitecture) {
  TILEWRIGHT_NEEDS_NVRTC();
  for (const CudaTarget& target : cuda_targets()) {
    SCOPED_TRACE(target.architecture());
    if (!nvrtc()->check(target)) continue;
    const auto binary = compile_cuda_text(kScale, target, *nvrtc());
    ASSERT_TRUE(binary) << to_string(binary.error());
    EXPECT_EQ(binary->cubin.substr(0, 4), "\177ELF");
    EXPECT_NE(binary->ptx.find(".entry scale"), std::string::npos);
    EXPECT_NE(binary->ptx.find(".target " + target.architecture()), std::string::npos);
    EXPECT_NE(binary->log.find("registers"), std::string::npos) << binary->log;
    EXPECT_GT(binary->milliseconds, 0);
  }
}

TEST(CompileCuda, NamesTheArchitecturesThatNvrtcKnowsWhenItIsNotOneOfThem) {
  TILEWRIGHT_NEEDS_NVRTC();
  CudaTarget old = sm80();
  old.capability = 35;
  const auto binary = compile_cuda_text(kScale, old, *nvrtc());
  ASSERT_FALSE(binary);
  const std::string sentence = to_string(binary.error());
  EXPECT_EQ(binary.error().list[0].kind, ErrorKind::unsupported);
  for (const char* part : {"sm_35", "sm_80", "CUDA_HOME"})
    EXPECT_NE(sentence.find(part), std::string::npos) << sentence;
}

TEST(CompileCuda, SaysWhatTheCompilerSaysOfATextThatItDoesNotTake) {
  TILEWRIGHT_NEEDS_NVRTC();
  const auto binary = compile_cuda_text("extern \"C\" __global__ void f() { no_such_thing(); }", sm80(), *nvrtc());
  ASSERT_FALSE(binary);
  const std::string sentence = to_string(binary.error());
  EXPECT_NE(sentence.find("no_such_thing"), std::string::npos) << sentence;
  EXPECT_NE(sentence.find("kernel.cu(1)"), std::string::npos) << sentence;
}

TEST(CompileCuda, RefusesATextThatIsTooLongAndSaysHowLongItIs) {
  TILEWRIGHT_NEEDS_NVRTC();
  const auto binary = compile_cuda_text(std::string(kLargestCudaText + 1, ' '), sm80(), *nvrtc());
  ASSERT_FALSE(binary);
  EXPECT_NE(to_string(binary.error()).find(std::to_string(kLargestCudaText + 1)), std::string::npos);
}

}  // namespace
}  // namespace tilewright
