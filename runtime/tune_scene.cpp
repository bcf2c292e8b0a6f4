#include "runtime/tune_scene.h"

#include <algorithm>
#include <cstring>

#include "runtime/limits.h"

namespace tilewright {
namespace {

constexpr double kShortest = 2e-4;  // seconds that the clock measures well

}  // namespace

Result<std::unique_ptr<TuneScene>> TuneScene::create(Setup setup) {
  TW_CHECK(setup.slice.all() || setup.data.oracle_rows == 0);
  auto data = TuneData::create(setup.data);
  if (!data) return data.error();
  std::unique_ptr<TuneScene> scene(new TuneScene(std::move(setup), std::move(*data)));
  const int64_t flush_bytes = scene->setup_.flush_bytes;
  scene->flush_ = AlignedBuffer(flush_bytes);
  if (!scene->flush_.data()) return invalid("{} bytes cannot be allocated", flush_bytes);
  std::memset(scene->flush_.data(), 1, static_cast<size_t>(flush_bytes));
  return scene;
}

Result<Done> TuneScene::run(const Kernel& kernel, const CpuSchedule& schedule, double* step_seconds) {
  const auto needed = kernel.workspace_bytes(dims(), setup_.data.executor->workers());
  if (!needed) return needed.error();
  if (workspace_.bytes() < *needed) {
    workspace_ = AlignedBuffer(*needed);
    if (!workspace_.data()) return invalid("a workspace of {} bytes cannot be allocated", *needed);
    std::memset(workspace_.data(), 0, static_cast<size_t>(*needed));  // so that no run pays for fresh pages
  }
  RunOptions options;
  options.executor = setup_.data.executor;
  if (*needed > 0) {
    options.workspace = workspace_.data();
    options.workspace_bytes = workspace_.bytes();
  }
  options.step_seconds = step_seconds;
  options.slice = setup_.slice;
  return setup_.run ? setup_.run(kernel, schedule, data_.inputs(), data_.outputs(), options)
                    : kernel.run(data_.inputs(), data_.outputs(), options);
}

std::string TuneScene::judge(const Kernel& kernel, const CpuSchedule& schedule) {
  const auto shapes = kernel.result_shapes(dims());
  if (!shapes) return to_string(shapes.error());
  if (auto ok = data_.poison(*shapes); !ok) return to_string(ok.error());
  if (auto ok = run(kernel, schedule, nullptr); !ok) return to_string(ok.error());
  return data_.verdict();
}

std::optional<WarmCold> TuneScene::time(const Kernel& kernel, const CpuSchedule& schedule, size_t step) {
  std::vector<double> steps(kernel.program().steps.size());
  const auto once = [&]() -> std::optional<double> {
    if (!run(kernel, schedule, steps.data())) return {};
    return steps[step];
  };
  const MemoryRange flush{flush_.data(), flush_.bytes()};
  time_read({&flush, 1}, *setup_.data.executor);
  const auto cold = once();
  if (!cold) return {};
  // The first run after a cold one is not warm yet where it is short.
  const int runs = std::clamp(static_cast<int>(kShortest / std::max(*cold, 1e-9)), 1, 32);
  double sum = 0;
  for (int i = 0; i < runs; ++i) {
    const auto warm = once();
    if (!warm) return {};
    sum += *warm;
  }
  return WarmCold{sum / runs, *cold};
}

}  // namespace tilewright
