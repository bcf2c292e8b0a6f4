// The one place of figures that were not measured in the run that shows them.
#include "bench/published.h"

#include <array>

namespace tilewright::bench {
namespace {

constexpr std::array kLimits = {
    PublishedLimit{"FMA peak f32, 1 thread", 239, "GFLOP/s"},
    PublishedLimit{"FMA peak f32, 2 threads", 475, "GFLOP/s"},
    PublishedLimit{"AMX peak bf16, 1 thread", 3300, "GFLOP/s"},
    PublishedLimit{"read loop, 17 MB, 1 thread", 29, "GB/s"},
    PublishedLimit{"read loop, 17 MB, 2 threads", 56, "GB/s"},
    PublishedLimit{"read loop, 256 MB, 1 thread", 16.5, "GB/s"},
    PublishedLimit{"read loop, 256 MB, 2 threads", 28, "GB/s"},
};

// who, dtype, query heads, K/V heads, head dim, length of queries and keys, causal, GFLOP/s. "brgemm loop" is built
// like PyTorch's kernel.
constexpr PublishedRate kRates[] = {
    {"ONNX Runtime 1.30", DType::f32, 8, 8, 64, 4096, false, 155},
    {"oneDNN 3.13 graph", DType::f32, 8, 8, 64, 4096, false, 81},
    {"oneDNN 3.13 graph (AMX)", DType::bf16, 8, 8, 64, 4096, false, 167},
    {"brgemm loop", DType::f32, 8, 8, 64, 4096, false, 132},
    {"brgemm loop", DType::bf16, 8, 8, 64, 4096, false, 266},
    {"llama.cpp, f16 KV", DType::f16, 8, 8, 64, 4096, false, 64},
    {"ONNX Runtime 1.30", DType::f32, 8, 8, 64, 4096, true, 75},
    {"oneDNN 3.13 graph", DType::f32, 8, 8, 64, 4096, true, 33},
    {"oneDNN 3.13 graph (AMX)", DType::bf16, 8, 8, 64, 4096, true, 59},
    {"brgemm loop", DType::f32, 8, 8, 64, 4096, true, 116},
    {"brgemm loop", DType::bf16, 8, 8, 64, 4096, true, 233},
    {"llama.cpp, f16 KV", DType::f16, 8, 8, 64, 4096, true, 41},
    {"ONNX Runtime 1.30", DType::f32, 32, 32, 128, 1024, false, 158},
    {"oneDNN 3.13 graph", DType::f32, 32, 32, 128, 1024, false, 152},
    {"oneDNN 3.13 graph (AMX)", DType::bf16, 32, 32, 128, 1024, false, 467},
    {"brgemm loop", DType::f32, 32, 32, 128, 1024, false, 148},
    {"brgemm loop", DType::bf16, 32, 32, 128, 1024, false, 314},
    {"llama.cpp, f16 KV", DType::f16, 32, 32, 128, 1024, false, 71},
    {"ONNX Runtime 1.30", DType::f32, 32, 32, 128, 4096, false, 155},
    {"oneDNN 3.13 graph", DType::f32, 32, 32, 128, 4096, false, 122},
    {"oneDNN 3.13 graph (AMX)", DType::bf16, 32, 32, 128, 4096, false, 363},
    {"brgemm loop", DType::f32, 32, 32, 128, 4096, false, 152},
    {"brgemm loop", DType::bf16, 32, 32, 128, 4096, false, 343},
    {"llama.cpp, f16 KV", DType::f16, 32, 32, 128, 4096, false, 68},
    {"ONNX Runtime 1.30", DType::f32, 32, 32, 128, 4096, true, 107},
    {"oneDNN 3.13 graph", DType::f32, 32, 32, 128, 4096, true, 50},
    {"oneDNN 3.13 graph (AMX)", DType::bf16, 32, 32, 128, 4096, true, 115},
    {"brgemm loop", DType::f32, 32, 32, 128, 4096, true, 131},
    {"brgemm loop", DType::bf16, 32, 32, 128, 4096, true, 292},
    {"llama.cpp, f16 KV", DType::f16, 32, 32, 128, 4096, true, 57},
    {"ONNX Runtime 1.30", DType::f32, 32, 8, 128, 2048, true, 99},
    {"oneDNN 3.13 graph", DType::f32, 32, 8, 128, 2048, true, 58},
    {"oneDNN 3.13 graph (AMX)", DType::bf16, 32, 8, 128, 2048, true, 218},
    {"brgemm loop", DType::f32, 32, 8, 128, 2048, true, 120},
    {"brgemm loop", DType::bf16, 32, 8, 128, 2048, true, 250},
    {"llama.cpp, f16 KV", DType::f16, 32, 8, 128, 2048, true, 52},
    {"ONNX Runtime 1.30", DType::f32, 1, 1, 64, 16384, false, 148},
    {"oneDNN 3.13 graph", DType::f32, 1, 1, 64, 16384, false, 66},
    {"oneDNN 3.13 graph (AMX)", DType::bf16, 1, 1, 64, 16384, false, 74},
    {"brgemm loop", DType::f32, 1, 1, 64, 16384, false, 138},
    {"brgemm loop", DType::bf16, 1, 1, 64, 16384, false, 272},
    {"llama.cpp, f16 KV", DType::f16, 1, 1, 64, 16384, false, 61},
};

}  // namespace

std::string_view published_source() {
  return "measured elsewhere: the project's performance page, one thread of a 2-core x86 server with AVX-512 and AMX";
}

std::span<const PublishedLimit> published_limits() { return kLimits; }

const PublishedLimit* published_limit(std::string_view row) {
  for (const PublishedLimit& limit : kLimits)
    if (limit.name == row) return &limit;
  return nullptr;
}

std::span<const PublishedRate> published_rates() { return kRates; }

}  // namespace tilewright::bench
