// What the tests over random seeds share: the seeds of a run, the kernels that must agree, runs on hostile memory.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/engine.h"
#include "tests/support/test_tensor.h"

namespace tilewright::testing {

/// Seeds of one test. TILEWRIGHT_TEST_SEED and TILEWRIGHT_TEST_CASES set them for soaking and debugging; shares are
/// asserted on full runs only.
struct SeedRange {
  uint64_t first = 1, cases = 0;
  bool full = true;
};
SeedRange seed_range(uint64_t cases);

/// Calls `check` for every seed on all cores. What it returns are failures, one sentence each; the first twenty are
/// told, with `describe` of their seed.
void check_seeds(const SeedRange& seeds, const std::function<std::vector<std::string>(uint64_t seed)>& check,
                 const std::function<std::string(uint64_t seed)>& describe);

/// One way to run a graph. Kernels are not cached and their modules are verified.
struct Way {
  std::string name;  ///< "avx512 fast"
  Engine engine;
  CompileOptions options;
  CpuIsa isa() const { return engine.target().isa; }
};
/// Fast and generic, on each ISA of this machine: all that are fast at even positions.
std::vector<Way> all_ways();
/// The tier that was compiled ahead of time, on each ISA of this machine.
std::vector<Way> ahead_of_time_ways();

Layout random_layout(std::mt19937_64& random);

/// What a kernel wrote.
struct Written {
  std::vector<TestTensor> outputs;
  std::vector<TestTensor> params;  ///< those of written_params, in their order
};
/// Runs on poisoned memory of random layouts and copies of what it writes in place. The workspace starts as NaN, so
/// that scratch read before it is written shows; every third run gets just enough for K and V to be packed on the fly.
/// Errors: those of the kernel, and bytes written outside of elements.
Result<Written> run_on_poison(const Kernel& kernel, const DimBindings& dims, std::span<const TestTensor> inputs,
                              std::mt19937_64& random);

/// Failures of the parameters that a kernel of the graph wrote in place, to the bit; `inputs` are as before the run.
std::vector<std::string> check_written_params(const Graph& graph, const DimBindings& dims,
                                              std::span<const TestTensor> inputs, std::span<const TestTensor> written);

}  // namespace tilewright::testing
