// GPU targets, and what of CUDA this machine has.
#include "cli/cuda.h"

#include <fmt/format.h>

#include "emulator/emulator_device.h"
#include "runtime/cuda/driver_device.h"
#include "runtime/options.h"

namespace tilewright::cli {
namespace {

std::string known_architectures() {
  std::string text;
  for (const CudaTarget& target : cuda_targets()) text += (text.empty() ? "" : ", ") + target.architecture();
  return text;
}

Result<CudaTarget> parse_architecture(const std::string& name) {
  if (const auto target = parse_cuda_target(name)) return *target;
  return invalid("the architecture {} is not known; {} are", name, known_architectures());
}

}  // namespace

bool is_cuda_target(const std::string& name) { return name.starts_with("cuda"); }

Result<CudaRunTarget> open_cuda_target(const std::string& name) {
  const size_t colon = name.find(':');
  const std::string kind = name.substr(0, colon), rest = colon == std::string::npos ? "" : name.substr(colon + 1);
  if (kind == "cuda-emu") {
    const auto target = parse_architecture(rest.empty() ? "sm_80" : rest);
    if (!target) return target.error();
    const auto execution = std::make_shared<EmulatedExecution>();
    return CudaRunTarget{"the emulator of " + target->architecture(), execution,
                         std::make_shared<EmulatorDevice>(*target, execution)};
  }
  if (kind != "cuda") return invalid("--target {} is not known; cuda-emu, cuda-emu:sm_80 and cuda are", name);
  const auto ordinal = parse_integer("the device of --target " + name, rest.empty() ? "0" : rest);
  if (!ordinal) return ordinal.error();
  auto device = DriverDevice::open(static_cast<int>(*ordinal), environment().cache_dir);
  if (!device) return device.error();
  const CudaDeviceFacts& facts = (*device)->driver().devices()[static_cast<size_t>(*ordinal)];
  return CudaRunTarget{facts.name, nullptr, *device};
}

Result<CudaTarget> parse_emit_target(const std::string& name) {
  const size_t colon = name.find(':');
  if (colon == std::string::npos || name.substr(0, colon) != "cuda")
    return invalid("--target {} is not known; cuda:sm_90a and the like are", name);
  return parse_architecture(name.substr(colon + 1));
}

MeasuredWith measured_here(const CudaTarget& target) {
  if (const auto& driver = cuda_driver())
    for (const CudaDeviceFacts& device : driver->devices())
      if (const auto code = code_target(device); code && code->architecture() == target.architecture())
        return measured_with(device);
  return {};
}

Json cuda_json() {
  Json json;
  if (const auto& compiler = nvrtc())
    json["nvrtc"] = {
        {"version", compiler->version()}, {"file", compiler->file()}, {"capabilities", compiler->capabilities()}};
  else
    json["nvrtc"] = {{"missing", to_string(nvrtc().error())}};
  const auto& driver = cuda_driver();
  if (!driver) {
    json["driver"] = {{"missing", to_string(driver.error())}};
    return json;
  }
  json["driver"] = {{"cuda", cuda_version_text(driver->version())}, {"file", driver->file()}};
  for (const CudaDeviceFacts& device : driver->devices()) {
    const auto code = code_target(device);
    json["devices"].push_back({{"name", device.name},
                               {"capability", device.target.capability},
                               {"architecture", code ? code->architecture() : "none"},
                               {"multiprocessors", device.target.multiprocessors},
                               {"shared_bytes_per_block", device.target.shared_bytes_per_block},
                               {"l2_bytes", device.target.l2_bytes}});
  }
  return json;
}

std::string cuda_text() {
  std::string text;
  if (const auto& compiler = nvrtc())
    text += fmt::format("nvrtc   {} ({}), compiles kernels for {}\n", compiler->version(), compiler->file(),
                        known_architectures());
  else
    text += fmt::format("nvrtc   {}\n", to_string(nvrtc().error()));
  const auto& driver = cuda_driver();
  if (!driver) return text + fmt::format("cuda    {}\n", to_string(driver.error()));
  text += fmt::format("cuda    driver for CUDA {} ({})\n", cuda_version_text(driver->version()), driver->file());
  for (const CudaDeviceFacts& device : driver->devices()) {
    const auto code = code_target(device);
    text += fmt::format("        device {}: {}, {}, {} multiprocessors, {} of shared memory per block, L2 {}\n",
                        device.ordinal, device.name, code ? code->architecture() : to_string(code.error()),
                        device.target.multiprocessors, bytes_text(device.target.shared_bytes_per_block),
                        bytes_text(device.target.l2_bytes));
  }
  return text;
}

}  // namespace tilewright::cli
