#include "tests/support/test_engines.h"

namespace tilewright::testing {

std::vector<Engine> engines_of_every_isa(int threads) {
  std::vector<Engine> engines;
  for (const CpuIsa isa : {CpuIsa::amx, CpuIsa::avx512, CpuIsa::avx2, CpuIsa::amx_emulated})
    if (auto engine = Engine::create({.threads = threads, .isa = isa})) engines.push_back(std::move(*engine));
  return engines;
}

}  // namespace tilewright::testing
