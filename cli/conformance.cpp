// tilewright devices --conformance: the GPU's instructions against the emulator's reading of them.
#include "emulator/conformance.h"

#include <fmt/format.h>

#include <cstdio>

#include "cli/cuda.h"
#include "emulator/emulator_device.h"

namespace tilewright::cli {

int run_conformance_cases(const std::string& target_name, int first, bool json) {
  const auto target = open_cuda_target(target_name);
  if (!target) return fail(target.error(), json);
  // On the emulator itself, one legal execution against another.
  EmulatorOptions late;
  late.seed = target->emulated ? 1 : 0;
  late.late_copies = late.late_tma = late.late_wgmma = target->emulated != nullptr;
  const EmulatorDevice emulator(target->device->target(), late);
  const auto& all = conformance_cases();
  if (first < 0 || static_cast<size_t>(first) > all.size())
    return fail(Diagnostics{{invalid("--from {} is no case; there are {}", first, all.size())}}, json);
  Json cases = Json::array();
  int wrong = 0;
  for (auto i = static_cast<size_t>(first); i < all.size(); ++i) {
    if (!applies(all[i], target->device->target())) continue;
    std::string why;
    for (uint32_t seed = 1; seed <= 4 && why.empty(); ++seed)
      why = check_conformance(all[i], *target->device, emulator, seed);
    wrong += why.empty() ? 0 : 1;
    cases.push_back({{"number", i}, {"name", all[i].name}, {"pass", why.empty()}, {"why", why}});
    if (json) continue;
    fmt::print("{} {} {}{}{}\n", why.empty() ? "right" : "WRONG", i, all[i].name, why.empty() ? "" : ": ", why);
    std::fflush(stdout);  // what hangs a GPU is the case after the last that is printed
  }
  if (json) fmt::print("{}\n", Json{{"device", target->name}, {"cases", cases}, {"wrong", wrong}}.dump(2));
  return wrong > 0 ? kWrongResult : kOk;
}

}  // namespace tilewright::cli
