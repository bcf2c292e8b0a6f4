// tilewright devices --conformance: the GPU's instructions against the emulator's reading of them.
#include "emulator/conformance.h"

#include <fmt/format.h>

#include "cli/cuda.h"
#include "emulator/emulator_device.h"

namespace tilewright::cli {

int check_conformance(bool json) {
  const auto target = open_cuda_target("cuda");
  if (!target) return fail(target.error(), json);
  const EmulatorDevice emulator(target->device->target());
  Json cases = Json::array();
  int wrong = 0;
  for (const ConformanceCase& test : conformance_cases()) {
    if (!applies(test, target->device->target())) continue;
    std::string why;
    for (uint64_t seed = 1; seed <= 4 && why.empty(); ++seed) {
      const auto emulated = run_conformance(test, emulator, seed), found = run_conformance(test, *target->device, seed);
      if (!emulated || !found)
        why = to_string((emulated ? found : emulated).error());
      else
        why = compare_conformance(test, *emulated, *found);
    }
    wrong += why.empty() ? 0 : 1;
    cases.push_back({{"name", test.name}, {"pass", why.empty()}, {"why", why}});
    if (!json) fmt::print("{} {}{}{}\n", why.empty() ? "right" : "WRONG", test.name, why.empty() ? "" : ": ", why);
  }
  if (json) fmt::print("{}\n", Json{{"device", target->name}, {"cases", cases}, {"wrong", wrong}}.dump(2));
  return wrong > 0 ? kWrongResult : kOk;
}

}  // namespace tilewright::cli
