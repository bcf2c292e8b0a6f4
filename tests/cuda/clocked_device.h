// ClockedDevice: the emulator with a clock that tells whatever a test plants, by schedule; and faults of kernels.
#pragma once

#include <cstring>
#include <functional>

#include "ir/text.h"
#include "runtime/cuda/tune_cuda.h"
#include "tests/cuda/forwarding_device.h"

namespace tilewright::testing {

class ClockedDevice final : public ForwardingDevice {
 public:
  /// Runs the kernel as it should be run.
  using Run = std::function<Result<Done>()>;

  using ForwardingDevice::ForwardingDevice;

  // What tests plant.
  std::function<double(const CudaSchedule&)> seconds = [](const CudaSchedule&) { return 1e-3; };
  /// In the place of a launch; `times` counts those of the schedule that compute, from 1.
  std::function<Result<Done>(const CudaSchedule&, const CudaKernelCall&, int times, const Run&)> launch =
      [](const CudaSchedule&, const CudaKernelCall&, int, const Run& run) { return run(); };
  std::string name = "Fake GPU compute 9.0", compiler = "nvrtc 0 source test";

  // What it saw.
  mutable std::map<std::string, int> computed;  ///< launches by schedule, timed ones left out
  mutable int timed = 0;

  /// Somebody is about to be judged: launches compute again.
  Result<Done> copy_in(void* device, const void* host, int64_t bytes) const override {
    is_timing_ = false;
    return ForwardingDevice::copy_in(device, host, bytes);
  }
  Result<std::unique_ptr<CudaClock>> make_clock() const override {
    return std::unique_ptr<CudaClock>(std::make_unique<Clock>(*this));
  }
  MeasuredWith measured_with() const override { return {name, compiler}; }

 private:
  struct Module final : CudaModule {
    Module(const ClockedDevice& of, std::shared_ptr<const CudaModule> real, CudaSchedule of_it)
        : device(of), module(std::move(real)), schedule(std::move(of_it)) {}
    Result<Done> launch(const CudaKernelCall& call) const override {
      device.elapsed_ += device.seconds(schedule);
      if (device.is_timing_) return Done{};
      return device.launch(schedule, call, ++device.computed[print(schedule)], [&] { return module->launch(call); });
    }
    const ClockedDevice& device;
    std::shared_ptr<const CudaModule> module;
    CudaSchedule schedule;
  };
  struct Clock final : CudaClock {
    explicit Clock(const ClockedDevice& of) : device(of) {}
    Result<Done> flush(void*) override {
      device.is_timing_ = true;
      return Done{};
    }
    Result<Done> begin(void*) override {
      device.elapsed_ = 0;
      return Done{};
    }
    Result<Done> end(void*) override {
      seconds_ = device.elapsed_;
      return Done{};
    }
    Result<double> seconds() override {
      ++device.timed;
      return seconds_;
    }
    const ClockedDevice& device;
    double seconds_ = 0;
  };

  std::shared_ptr<const CudaModule> wrap(std::shared_ptr<const CudaModule> real,
                                         const CudaSchedule& schedule) const override {
    return std::make_shared<Module>(*this, std::move(real), schedule);
  }

  mutable bool is_timing_ = false;
  mutable double elapsed_ = 0;
};

/// Causal attention of two heads of 64 on one K/V head, bf16, any lengths.
inline Graph clocked_graph() {
  auto graph = parse_graph(R"(
graph @causal(%q: bf16[B,2,Sq,64], %k: bf16[B,1,Sk,64], %v: bf16[B,1,Sk,64]) -> bf16[B,2,Sq,64] {
  %kh = repeat_heads %k, times=2          : bf16[B,2,Sk,64]
  %vh = repeat_heads %v, times=2          : bf16[B,2,Sk,64]
  %s = matmul_nt %q, %kh                  : f32[B,2,Sq,Sk]
  %a = mul %s, 0.125                      : f32[B,2,Sq,Sk]
  %e = mask_causal %a, align=bottom_right : f32[B,2,Sq,Sk]
  %p = softmax %e, axis=3                 : f32[B,2,Sq,Sk]
  %c = cast %p                            : bf16[B,2,Sq,Sk]
  %o = matmul %c, %vh                     : bf16[B,2,Sq,64]
  return %o
})");
  TW_CHECK(graph.ok());
  return std::move(*graph);
}
inline const DimBindings kClockedDims = {{"B", 1}, {"Sq", 70}, {"Sk", 90}};

inline std::shared_ptr<ClockedDevice> clocked_device(const char* architecture = "sm_90a") {
  return std::make_shared<ClockedDevice>(*parse_cuda_target(architecture));
}

}  // namespace tilewright::testing
