// NVRTC's functions as we declare them: no header of CUDA's. tests/cuda compares with nvrtc.h where that is found.
#pragma once

#include <cstddef>
#include <type_traits>

namespace tilewright {

using NvrtcProgram = struct NvrtcProgramBody*;
using NvrtcResult = int;  // an enum of theirs

enum : NvrtcResult {
  kNvrtcSuccess = 0,
  kNvrtcOutOfMemory = 1,
  kNvrtcInvalidOption = 5,
  kNvrtcCompilation = 6,
  kNvrtcBuiltinOperationFailure = 7,
};

/// Name and signature of everything that is used.
#define TILEWRIGHT_NVRTC_FUNCTIONS(X)                                                                       \
  X(nvrtcVersion, NvrtcResult(int* major, int* minor))                                                      \
  X(nvrtcGetNumSupportedArchs, NvrtcResult(int* count))                                                     \
  X(nvrtcGetSupportedArchs, NvrtcResult(int* capabilities))                                                 \
  X(nvrtcGetErrorString, const char*(NvrtcResult result))                                                   \
  X(nvrtcCreateProgram, NvrtcResult(NvrtcProgram* program, const char* text, const char* name, int headers, \
                                    const char* const* header_texts, const char* const* include_names))     \
  X(nvrtcDestroyProgram, NvrtcResult(NvrtcProgram* program))                                                \
  X(nvrtcCompileProgram, NvrtcResult(NvrtcProgram program, int options, const char* const* option_texts))   \
  X(nvrtcGetCUBINSize, NvrtcResult(NvrtcProgram program, size_t* bytes))                                    \
  X(nvrtcGetCUBIN, NvrtcResult(NvrtcProgram program, char* cubin))                                          \
  X(nvrtcGetPTXSize, NvrtcResult(NvrtcProgram program, size_t* bytes))                                      \
  X(nvrtcGetPTX, NvrtcResult(NvrtcProgram program, char* ptx))                                              \
  X(nvrtcGetProgramLogSize, NvrtcResult(NvrtcProgram program, size_t* bytes))                               \
  X(nvrtcGetProgramLog, NvrtcResult(NvrtcProgram program, char* log))

struct NvrtcApi {
#define TILEWRIGHT_MEMBER(name, ...) std::add_pointer_t<__VA_ARGS__> name = nullptr;
  TILEWRIGHT_NVRTC_FUNCTIONS(TILEWRIGHT_MEMBER)
#undef TILEWRIGHT_MEMBER
};

}  // namespace tilewright
