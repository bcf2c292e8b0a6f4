// A stand-in for NVRTC, of the version that its file name ends with: libnvrtc.so.12 is 12.8, .13 is 13.0. It compiles
// nothing: its cubin is the options that it was given.
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "runtime/cuda/nvrtc_api.h"

using namespace tilewright;

namespace {

constexpr int kCapabilities12[] = {80, 86, 89, 90}, kCapabilities13[] = {80, 86, 89, 90, 100, 120};

int major_version() {
  Dl_info where{};
  dladdr(reinterpret_cast<void*>(&major_version), &where);
  const std::string file = where.dli_fname;
  return std::atoi(file.c_str() + file.rfind('.') + 1);
}

std::string options_given;

}  // namespace

extern "C" {

NvrtcResult nvrtcVersion(int* major, int* minor) {
  *major = major_version();
  *minor = *major == 12 ? 8 : 0;
  return kNvrtcSuccess;
}
NvrtcResult nvrtcGetNumSupportedArchs(int* count) {
  *count = major_version() >= 13 ? 6 : 4;
  return kNvrtcSuccess;
}
NvrtcResult nvrtcGetSupportedArchs(int* capabilities) {
  if (major_version() >= 13)
    std::memcpy(capabilities, kCapabilities13, sizeof kCapabilities13);
  else
    std::memcpy(capabilities, kCapabilities12, sizeof kCapabilities12);
  return kNvrtcSuccess;
}
const char* nvrtcGetErrorString(NvrtcResult) { return "what NVRTC says"; }
NvrtcResult nvrtcCreateProgram(NvrtcProgram* program, const char* text, const char*, int, const char* const*,
                               const char* const*) {
  *program = reinterpret_cast<NvrtcProgram>(const_cast<char*>(text));
  return kNvrtcSuccess;
}
NvrtcResult nvrtcDestroyProgram(NvrtcProgram*) { return kNvrtcSuccess; }
/// The text says what comes of it: "memory", "builtins" or anything else, which compiles.
NvrtcResult nvrtcCompileProgram(NvrtcProgram program, int count, const char* const* options) {
  options_given.clear();
  for (int i = 0; i < count; ++i) options_given += std::string(options[i]) + " ";
  const std::string text = reinterpret_cast<const char*>(program);
  if (text == "memory") return kNvrtcOutOfMemory;
  if (text == "builtins") return kNvrtcBuiltinOperationFailure;
  return kNvrtcSuccess;
}
NvrtcResult nvrtcGetCUBINSize(NvrtcProgram, size_t* bytes) {
  *bytes = options_given.size();
  return kNvrtcSuccess;
}
NvrtcResult nvrtcGetCUBIN(NvrtcProgram, char* cubin) {
  std::memcpy(cubin, options_given.data(), options_given.size());
  return kNvrtcSuccess;
}
NvrtcResult nvrtcGetPTXSize(NvrtcProgram, size_t* bytes) {
  *bytes = 1;
  return kNvrtcSuccess;
}
NvrtcResult nvrtcGetPTX(NvrtcProgram, char* ptx) {
  *ptx = 0;
  return kNvrtcSuccess;
}
NvrtcResult nvrtcGetProgramLogSize(NvrtcProgram program, size_t* bytes) { return nvrtcGetPTXSize(program, bytes); }
NvrtcResult nvrtcGetProgramLog(NvrtcProgram program, char* log) { return nvrtcGetPTX(program, log); }
}
