#include "runtime/cuda/run_report.h"

#include <nlohmann/json.hpp>

namespace tilewright {

std::string print_run(const CudaProgram& program, std::span<const CudaStepRun> taken) {
  auto steps = nlohmann::ordered_json::array();
  for (size_t i = 0; i < taken.size(); ++i) {
    const CudaStep& step = program.steps[i];
    const CudaSchedule& schedule = step.choices[taken[i].choice].source.launch.schedule;
    auto refused = nlohmann::ordered_json::array();
    for (const CudaPlan::Refusal& refusal : step.refused)
      refused.push_back({{"template", to_string(refusal.kernel)}, {"because", refusal.reason}});
    steps.push_back({{"name", step.name},
                     {"fused", step.fused},
                     {"template", to_string(schedule.kernel)},
                     {"schedule", print(schedule)},
                     {"because", schedule.reasons},
                     {"passed_over", taken[i].passed_over},
                     {"refused", std::move(refused)}});
  }
  return steps.dump(2);
}

}  // namespace tilewright
