#include "runtime/cuda/compile_cuda.h"

#include <memory>

#include "runtime/stopwatch.h"

namespace tilewright {
namespace {

/// "kernel.cu(12): error: …", the first line of the log that complains; its beginning when none says so.
std::string first_complaint(const std::string& log) {
  const size_t at = log.find("error");
  const size_t begin = at == std::string::npos ? 0 : log.rfind('\n', at) + 1;  // npos + 1 = 0
  return log.substr(begin, std::min<size_t>(log.find('\n', begin) - begin, 400));
}

template <class Size, class Take>
std::string take_text(NvrtcProgram program, Size size_of_it, Take take, bool has_terminator) {
  size_t bytes = 0;
  if (size_of_it(program, &bytes) != kNvrtcSuccess || bytes == 0) return {};
  std::string out(bytes, '\0');
  if (take(program, out.data()) != kNvrtcSuccess) return {};
  if (has_terminator) out.resize(bytes - 1);
  return out;
}

}  // namespace

Result<CudaBinary> compile_cuda_text(const std::string& text, const CudaTarget& target, const Nvrtc& compiler) {
  if (auto known = compiler.check(target); !known) return known.error();
  if (text.size() > kLargestCudaText)
    return unsupported("the CUDA text of this kernel has {} bytes; NVRTC is given {} at most", text.size(),
                       kLargestCudaText);
  const NvrtcApi& api = compiler.api();
  CudaBinary binary;
  binary.architecture = target.architecture();
  Stopwatch watch;
  NvrtcProgram raw = nullptr;
  NvrtcResult result = api.nvrtcCreateProgram(&raw, text.c_str(), "kernel.cu", 0, nullptr, nullptr);
  if (result != kNvrtcSuccess)
    return unsupported("NVRTC {} takes no text: {}", compiler.version(), api.nvrtcGetErrorString(result));
  const auto destroy = [&api](NvrtcProgram program) { api.nvrtcDestroyProgram(&program); };
  const std::unique_ptr<NvrtcProgramBody, decltype(destroy)> program(raw, destroy);

  const std::string architecture = "--gpu-architecture=" + binary.architecture;
  // No --Ofast-compile: it drops unrolling and ignores setmaxnreg. --ptxas-options=-v makes ptxas say what it spills.
  // Warning 177 is about functions that are not used: device files have what some kernel needs.
  std::vector<const char*> options = {architecture.c_str(), "--std=c++17", "--diag-suppress=177", "--ptxas-options=-v"};
  // Kernels have a cache of ours, and times are those of a compile. --minimal: no declarations of textures and
  // surfaces, 15 ms a kernel.
  if (compiler.major() >= 13) options.insert(options.end(), {"--no-cache", "--minimal"});
  result = api.nvrtcCompileProgram(raw, static_cast<int>(options.size()), options.data());
  binary.log = take_text(raw, api.nvrtcGetProgramLogSize, api.nvrtcGetProgramLog, true);
  if (result == kNvrtcCompilation)
    return unsupported("NVRTC {} does not take the text of this kernel for {}: {}", compiler.version(),
                       binary.architecture, first_complaint(binary.log));
  if (result == kNvrtcBuiltinOperationFailure && compiler.builtins().empty())
    return unsupported("NVRTC {} ({}) has no libnvrtc-builtins.so.{} beside it: install the toolkit whole",
                       compiler.version(), compiler.file(), compiler.version());
  if (result != kNvrtcSuccess)
    return unsupported("NVRTC {} failed for {}: {}; {}", compiler.version(), binary.architecture,
                       api.nvrtcGetErrorString(result), first_complaint(binary.log));
  binary.cubin = take_text(raw, api.nvrtcGetCUBINSize, api.nvrtcGetCUBIN, false);
  binary.milliseconds = watch.milliseconds();
  binary.ptx = take_text(raw, api.nvrtcGetPTXSize, api.nvrtcGetPTX, true);
  if (binary.cubin.empty())
    return unsupported("NVRTC {} made no cubin for {}", compiler.version(), binary.architecture);
  return binary;
}

Result<CudaBinary> compile_cuda(const CudaSource& source, const CudaTarget& target) {
  const Result<Nvrtc>& compiler = nvrtc();
  if (!compiler) return compiler.error();
  return compile_cuda_text(nvrtc_text(source), target, *compiler);
}

}  // namespace tilewright
