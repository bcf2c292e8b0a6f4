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

// who, dtype, query heads, K/V heads, head dim, length of queries and keys, causal, GFLOP/s, on AMX. "brgemm loop" is
// built like PyTorch's kernel.
constexpr PublishedRate kRates[] = {
    {"ONNX Runtime 1.30", DType::f32, 8, 8, 64, 4096, false, 155, false},
    {"oneDNN 3.13 graph", DType::f32, 8, 8, 64, 4096, false, 81, false},
    {"oneDNN 3.13 graph", DType::bf16, 8, 8, 64, 4096, false, 167, true},
    {"brgemm loop", DType::f32, 8, 8, 64, 4096, false, 132, false},
    {"brgemm loop", DType::bf16, 8, 8, 64, 4096, false, 266, true},
    {"llama.cpp, f16 KV", DType::f16, 8, 8, 64, 4096, false, 64, false},
    {"ONNX Runtime 1.30", DType::f32, 8, 8, 64, 4096, true, 75, false},
    {"oneDNN 3.13 graph", DType::f32, 8, 8, 64, 4096, true, 33, false},
    {"oneDNN 3.13 graph", DType::bf16, 8, 8, 64, 4096, true, 59, true},
    {"brgemm loop", DType::f32, 8, 8, 64, 4096, true, 116, false},
    {"brgemm loop", DType::bf16, 8, 8, 64, 4096, true, 233, true},
    {"llama.cpp, f16 KV", DType::f16, 8, 8, 64, 4096, true, 41, false},
    {"ONNX Runtime 1.30", DType::f32, 32, 32, 128, 1024, false, 158, false},
    {"oneDNN 3.13 graph", DType::f32, 32, 32, 128, 1024, false, 152, false},
    {"oneDNN 3.13 graph", DType::bf16, 32, 32, 128, 1024, false, 467, true},
    {"brgemm loop", DType::f32, 32, 32, 128, 1024, false, 148, false},
    {"brgemm loop", DType::bf16, 32, 32, 128, 1024, false, 314, true},
    {"llama.cpp, f16 KV", DType::f16, 32, 32, 128, 1024, false, 71, false},
    {"ONNX Runtime 1.30", DType::f32, 32, 32, 128, 4096, false, 155, false},
    {"oneDNN 3.13 graph", DType::f32, 32, 32, 128, 4096, false, 122, false},
    {"oneDNN 3.13 graph", DType::bf16, 32, 32, 128, 4096, false, 363, true},
    {"brgemm loop", DType::f32, 32, 32, 128, 4096, false, 152, false},
    {"brgemm loop", DType::bf16, 32, 32, 128, 4096, false, 343, true},
    {"llama.cpp, f16 KV", DType::f16, 32, 32, 128, 4096, false, 68, false},
    {"ONNX Runtime 1.30", DType::f32, 32, 32, 128, 4096, true, 107, false},
    {"oneDNN 3.13 graph", DType::f32, 32, 32, 128, 4096, true, 50, false},
    {"oneDNN 3.13 graph", DType::bf16, 32, 32, 128, 4096, true, 115, true},
    {"brgemm loop", DType::f32, 32, 32, 128, 4096, true, 131, false},
    {"brgemm loop", DType::bf16, 32, 32, 128, 4096, true, 292, true},
    {"llama.cpp, f16 KV", DType::f16, 32, 32, 128, 4096, true, 57, false},
    {"ONNX Runtime 1.30", DType::f32, 32, 8, 128, 2048, true, 99, false},
    {"oneDNN 3.13 graph", DType::f32, 32, 8, 128, 2048, true, 58, false},
    {"oneDNN 3.13 graph", DType::bf16, 32, 8, 128, 2048, true, 218, true},
    {"brgemm loop", DType::f32, 32, 8, 128, 2048, true, 120, false},
    {"brgemm loop", DType::bf16, 32, 8, 128, 2048, true, 250, true},
    {"llama.cpp, f16 KV", DType::f16, 32, 8, 128, 2048, true, 52, false},
    {"ONNX Runtime 1.30", DType::f32, 1, 1, 64, 16384, false, 148, false},
    {"oneDNN 3.13 graph", DType::f32, 1, 1, 64, 16384, false, 66, false},
    {"oneDNN 3.13 graph", DType::bf16, 1, 1, 64, 16384, false, 74, true},
    {"brgemm loop", DType::f32, 1, 1, 64, 16384, false, 138, false},
    {"brgemm loop", DType::bf16, 1, 1, 64, 16384, false, 272, true},
    {"llama.cpp, f16 KV", DType::f16, 1, 1, 64, 16384, false, 61, false},
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
