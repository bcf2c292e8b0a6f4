// Every primitive on the emulator does what the PTX ISA's tables say, in every legal execution.
#include <gtest/gtest.h>

#include "emulator/conformance.h"
#include "emulator/tensor_map.h"
#include "tests/emulator/kernel.h"

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

INSTANTIATE_TEST_SUITE_P(Tables, Primitive, ::testing::ValuesIn(conformance_cases()),
                         [](const ::testing::TestParamInfo<ConformanceCase>& one) {
                           std::string name = one.param.name;
                           std::replace_if(name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
                           return name;
                         });

}  // namespace
}  // namespace tilewright::testing
