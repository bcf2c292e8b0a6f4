// Every primitive on the emulator does what the PTX ISA's tables say, in every legal execution.
#include <gtest/gtest.h>

#include <cstdlib>
#include <regex>
#include <set>

#include "emulator/conformance.h"
#include "emulator/tensor_map.h"
#include "runtime/options.h"
#include "tests/emulator/kernel.h"
#include "tests/support/paths.h"
#include "tests/support/temporary_folder.h"

namespace tilewright::testing {
namespace {

class Primitive : public ::testing::TestWithParam<ConformanceCase> {};

TEST_P(Primitive, HoldsOnTheEmulator) {
  const ConformanceCase& one = GetParam();
  const auto module = EmulatedModule::build(conformance_source(one));
  ASSERT_TRUE(module) << to_string(module.error());
  for (EmulatorOptions options : legal_executions()) {
    const std::vector<uint32_t> given = one.input(static_cast<uint32_t>(7 + options.seed));
    // Global memory of a GPU is aligned; so is this.
    std::vector<EmulatedTensorMap> space(2 * (given.size() + one.output_words) / 16 + 4);
    auto* in = reinterpret_cast<uint32_t*>(space.data());
    uint32_t* out = in + (given.size() + 31) / 32 * 32;
    std::copy(given.begin(), given.end(), in);
    std::fill_n(out, one.output_words, 0u);
    options.buffers = {{in, given.size() * 4, false}, {out, one.output_words * 4, true}};
    std::vector<EmulatedTensorMap> maps;
    for (const ConformanceCase::Map& map : one.maps) {
      TensorMapGeometry geometry;
      geometry.base = map.over_output ? out : in;
      geometry.extents = map.extents;
      geometry.box = map.box;
      int64_t stride = 2;
      for (size_t axis = 1; axis < map.extents.size(); ++axis)
        geometry.stride_bytes.push_back(stride *= map.extents[axis - 1]);
      const auto encoded = encode_tensor_map(geometry);
      ASSERT_TRUE(encoded) << to_string(encoded.error());
      maps.push_back(*encoded);
    }
    ASSERT_EQ(run(*module, {one.threads, one.shared_bytes}, {in, out}, options, maps), "");
    ASSERT_EQ(compare_conformance(one, {out, one.output_words}, one.expected(given), "the PTX ISA"), "")
        << "seed " << options.seed;
  }
}

/// The functions that device files define, with TW_DEVICE or TW_PRIMITIVE, once macros are gone.
std::set<std::string> functions_of(const std::string& text) {
  std::set<std::string> names;
  const std::regex definition(R"((?:TW_DEVICE|TW_PRIMITIVE)\s+[A-Za-z0-9_]+\s+(\w+)\s*\()");
  for (std::sregex_iterator at(text.begin(), text.end(), definition), end; at != end; ++at)
    names.insert((*at)[1].str());
  return names;
}

/// Text after the C++ compiler's preprocessor, so that names which macros make are seen.
std::string preprocessed(const std::string& text) {
  // TW_DEVICE and TW_PRIMITIVE stay as they are.
  const std::string undefined =
      std::regex_replace(text, std::regex(R"(#define TW_(DEVICE|PRIMITIVE)\b)"), "#define TW_OTHER_$1");
  const TemporaryFolder folder;
  const std::string from = std::string(folder.path()) + "/text.cpp", to = std::string(folder.path()) + "/out.cpp";
  write_file(from, undefined);
  const std::string command = fmt::format("{} -E -P -x c++ {} -o {} 2>/dev/null",
                                          environment().cxx.empty() ? "c++" : environment().cxx, from, to);
  return std::system(command.c_str()) == 0 ? read_file(to) : "";
}

TEST(Primitives, EachHasAnEmulatedBodyAndACase) {
  const std::string device = source_dir() + "/codegen/cuda/device/primitives/",
                    emulated = source_dir() + "/emulator/device/";
  std::string calls;
  for (const ConformanceCase& one : conformance_cases()) calls += conformance_source(one).parts.front() + "\n";
  size_t seen = 0;
  for (const char* level : {"base", "math", "sm80", "sm90"}) {
    // The sums of one width stand for those of all.
    const std::string instance =
        std::string(level) == "sm90" ? "\nTW_WGMMA(bf16, 64) TW_WGMMA(f16, 64) TW_REGISTER_FENCE(64)" : "";
    const std::set<std::string> promised = functions_of(preprocessed(read_file(device + level + ".cuh") + instance));
    const std::set<std::string> bodies = functions_of(preprocessed(read_file(emulated + level + ".h")));
    EXPECT_FALSE(promised.empty()) << level;
    for (const std::string& name : promised) {
      ++seen;
      EXPECT_TRUE(bodies.contains(name)) << name << " has no emulated body";
      EXPECT_TRUE(std::regex_search(calls, std::regex("\\b" + name + "\\b"))) << name << " is in no conformance case";
    }
  }
  EXPECT_GT(seen, 100u);
}

INSTANTIATE_TEST_SUITE_P(Tables, Primitive, ::testing::ValuesIn(conformance_cases()),
                         [](const ::testing::TestParamInfo<ConformanceCase>& one) {
                           std::string name = one.param.name;
                           std::replace_if(name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
                           return name;
                         });

}  // namespace
}  // namespace tilewright::testing
