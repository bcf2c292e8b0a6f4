#include "runtime/cuda/cuda_tune_scene.h"

#include <algorithm>

namespace tilewright {
namespace {

/// Kernels that take less are over before the host has enqueued the next: two runs and a flush go ahead of a warm one.
constexpr double kShort = 200e-6;

}  // namespace

Result<std::unique_ptr<CudaTuneScene>> CudaTuneScene::create(TuneData::Setup setup, const CudaDevice& device) {
  auto data = TuneData::create(std::move(setup));
  if (!data) return data.error();
  std::unique_ptr<CudaTuneScene> scene(new CudaTuneScene(std::move(*data), device));
  for (const TensorView& view : scene->data_.inputs())
    if (auto ok = scene->in_.add(view); !ok) return ok.error();
  return scene;
}

Result<Done> CudaTuneScene::make_workspace(const CudaKernel& kernel) {
  const auto needed = kernel.workspace_bytes(data_.dims());
  if (!needed) return needed.error();
  if (*needed <= workspace_bytes_ && workspace_) return Done{};
  auto workspace = device_.allocate(std::max<int64_t>(*needed, 1));
  if (!workspace) return workspace.error();
  workspace_ = std::move(*workspace);
  workspace_bytes_ = *needed;
  return Done{};
}

Result<Done> CudaTuneScene::run(const CudaKernel& kernel, CudaRunOptions options) {
  options.workspace = workspace_.get();
  options.workspace_bytes = workspace_bytes_;
  return kernel.run(in_.views(), out_.views(), options);
}

Result<Done> CudaTuneScene::judged_run(const CudaKernel& kernel, std::vector<CudaStepRun>* taken) {
  const auto shapes = kernel.result_shapes(data_.dims());
  if (!shapes) return shapes.error();
  if (auto ok = data_.poison(*shapes); !ok) return ok;
  for (size_t i = 0; i < data_.outputs().size(); ++i)
    if (auto ok = i < out_.views().size() ? out_.send(i) : out_.add(data_.outputs()[i]); !ok) return ok;
  if (auto ok = make_workspace(kernel); !ok) return ok;
  const std::vector<std::byte> nan(static_cast<size_t>(workspace_bytes_), std::byte{0xff});
  if (auto ok = device_.copy_in(workspace_.get(), nan.data(), workspace_bytes_); !ok) return ok;
  CudaRunOptions options;
  options.taken = taken;
  if (auto ok = run(kernel, options); !ok) return ok;
  for (size_t i = 0; i < out_.views().size(); ++i)
    if (auto ok = out_.copy_back(i); !ok) return ok;
  for (size_t i = 0; i < in_.views().size(); ++i)
    if (auto ok = in_.copy_back(i); !ok) return ok;
  return Done{};
}

std::string CudaTuneScene::judge(const CudaKernel& kernel, std::vector<CudaStepRun>* taken) {
  if (auto ok = judged_run(kernel, taken); !ok) return to_string(ok.error());
  std::string wrong = data_.verdict();
  if (!wrong.empty())  // it may have written into its operands, which are mended on the host
    for (size_t i = 0; i < in_.views().size(); ++i)
      if (auto ok = in_.send(i); !ok) return to_string(ok.error());
  return wrong;
}

Result<WarmCold> CudaTuneScene::time(const CudaKernel& kernel, size_t step, CudaClock& clock) {
  if (auto ok = make_workspace(kernel); !ok) return ok.error();
  CudaRunOptions timed;
  timed.clock = &clock;
  timed.timed_step = step;
  if (auto ok = clock.flush(timed.stream); !ok) return ok.error();
  if (auto ok = run(kernel, timed); !ok) return ok.error();
  const auto cold = clock.seconds();
  if (!cold) return cold.error();
  // A flush lasts some 50 microseconds; what it evicts, the first run brings back.
  if (auto ok = clock.flush(timed.stream); !ok) return ok.error();
  for (int i = 0; i < (*cold < kShort ? 2 : 1); ++i)
    if (auto ok = run(kernel, {}); !ok) return ok.error();
  if (auto ok = run(kernel, timed); !ok) return ok.error();
  const auto warm = clock.seconds();
  if (!warm) return warm.error();
  return WarmCold{*warm, *cold};
}

}  // namespace tilewright
