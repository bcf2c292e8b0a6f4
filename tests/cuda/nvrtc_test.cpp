// Finding and loading NVRTC, and text → cubin.
#include <algorithm>
#include <filesystem>

#include "runtime/cuda/compile_cuda.h"
#include "tests/cuda/cuda_support.h"
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
