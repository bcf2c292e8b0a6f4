// What a cubin and ptxas's log say of a kernel, and how many blocks of it fit, by independent routes.
#include "runtime/cuda/cubin.h"

#include <cstdio>
#include <map>
#include <regex>

#include "runtime/cuda/compile_cuda.h"
#include "runtime/cuda/occupancy.h"
#include "runtime/cuda/ptxas_log.h"
#include "tests/cuda/cuda_support.h"
#include "tests/support/temporary_folder.h"

#if __has_include(<cuda_occupancy.h>)
#define TILEWRIGHT_HAS_OCCUPANCY
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <cuda_occupancy.h>
#pragma GCC diagnostic pop
#endif

namespace tilewright {
namespace {

constexpr const char* kKernels = R"(
extern "C" __global__ void exchange(float* x, long long a, int b) {
  __shared__ float s[256];
  extern __shared__ float dynamic[];
  s[threadIdx.x] = x[threadIdx.x];
  dynamic[threadIdx.x] = b;
  __syncthreads();
  x[threadIdx.x] = s[255 - threadIdx.x] + dynamic[a];
}
extern "C" __global__ void local(float* x, int n) {
  float l[40];
  for (int i = 0; i < 40; ++i) l[i] = x[i];
#pragma unroll 1
  for (int i = 0; i < n; ++i) x[i] = l[(i * n) % 40];
}
extern "C" __global__ void __launch_bounds__(512, 3) spill(float* x, int n) {
  float a[64];
#pragma unroll
  for (int i = 0; i < 64; ++i) asm volatile("ld.global.f32 %0, [%1];" : "=f"(a[i]) : "l"(x + i * n));
#pragma unroll
  for (int i = 63; i >= 0; --i) asm volatile("st.global.f32 [%0], %1;" ::"l"(x + i), "f"(a[i]));
}
extern "C" __global__ void tensor(float* x, const unsigned* a, unsigned shared) {
  unsigned r[4];
  float c[4] = {0, 0, 0, 0};
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(a));
  asm volatile("cp.async.wait_all;");
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared));
  for (int i = 0; i < 3; ++i)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]), "r"(r[0]), "r"(r[2]));
  x[threadIdx.x] = c[0] + c[1] + c[2] + c[3];
}
)";

const KernelFacts& find(const std::vector<KernelFacts>& kernels, std::string_view symbol) {
  for (const KernelFacts& facts : kernels)
    if (facts.symbol == symbol) return facts;
  ADD_FAILURE() << "no kernel " << symbol;
  return kernels.front();
}

/// The kernels above, compiled once for each architecture that NVRTC knows.
const std::vector<std::pair<CudaTarget, CudaBinary>>& binaries() {
  static const auto compiled = [] {
    std::vector<std::pair<CudaTarget, CudaBinary>> out;
    for (const CudaTarget& target : cuda_targets()) {
      if (!nvrtc()->check(target)) continue;
      auto binary = compile_cuda_text(kKernels, target, *nvrtc());
      EXPECT_TRUE(binary) << to_string(binary.error());
      if (binary) out.emplace_back(target, std::move(*binary));
    }
    return out;
  }();
  return compiled;
}

TEST(Cubin, SaysWhatPtxasSaysOnEveryArchitecture) {
  TILEWRIGHT_NEEDS_NVRTC();
  for (const auto& [target, binary] : binaries()) {
    SCOPED_TRACE(target.architecture());
    const auto kernels = read_cubin(binary.cubin);
    ASSERT_TRUE(kernels) << to_string(kernels.error());
    EXPECT_EQ(kernels->size(), 4u);
    const PtxasLog log = parse_ptxas_log(binary.log);
    ASSERT_EQ(log.kernels.size(), 4u) << binary.log;
    for (const PtxasLog::Kernel& said : log.kernels) {
      const KernelFacts& facts = find(*kernels, said.symbol);
      EXPECT_EQ(facts.registers, said.registers) << said.symbol;
      EXPECT_EQ(facts.local_bytes, said.stack_bytes) << said.symbol;
      EXPECT_GT(facts.instructions, 0) << said.symbol;
      EXPECT_EQ(facts.count("STL") > 0, said.stack_bytes > 0) << said.symbol << ": " << print_census(facts);
      EXPECT_EQ(said.spill_store_bytes > 0, said.symbol == "spill") << said.symbol;
      EXPECT_EQ(said.spill_load_bytes > 0, said.symbol == "spill") << said.symbol;
    }
    EXPECT_EQ(find(*kernels, "exchange").static_shared, 1024);
    EXPECT_EQ(find(*kernels, "local").static_shared, 0);
    EXPECT_EQ(find(*kernels, "exchange").parameter_bytes, 20);
    EXPECT_EQ(find(*kernels, "exchange").barriers, 1);
    EXPECT_GE(find(*kernels, "local").local_bytes, 160);
    const KernelFacts& tensor = find(*kernels, "tensor");
    EXPECT_EQ(tensor.count("HMMA"), 3);
    EXPECT_EQ(tensor.count("LDSM"), 1);
    EXPECT_EQ(tensor.count("LDGSTS"), 1);
    EXPECT_EQ(tensor.count("LDL") + tensor.count("STL"), 0);
  }
}

/// Instruction counts by name as nvdisasm prints them.
std::map<std::string, int64_t> disassemble(const std::string& cubin) {
  const testing::TemporaryFolder folder;
  const std::string file = std::string(folder.path()) + "/kernel.cubin";
  testing::write_file(file, cubin);
  std::map<std::string, int64_t> counts;
  FILE* pipe = popen(("nvdisasm -c " + file + " 2>/dev/null").c_str(), "r");
  if (!pipe) return counts;
  const std::regex instruction(R"(^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_]+))");
  char line[4096];
  while (fgets(line, sizeof line, pipe))
    if (std::cmatch match; std::regex_search(line, match, instruction)) ++counts[match[1]];
  pclose(pipe);
  return counts;
}

TEST(Cubin, CensusIsThatOfNvdisasm) {
  TILEWRIGHT_NEEDS_NVRTC();
  bool found = false;
  for (const auto& [target, binary] : binaries()) {
    SCOPED_TRACE(target.architecture());
    const auto said = disassemble(binary.cubin);
    if (said.empty()) continue;
    found = true;
    const auto kernels = read_cubin(binary.cubin);
    ASSERT_TRUE(kernels);
    for (const std::string_view opcode : counted_opcodes()) {
      int64_t ours = 0;
      for (const KernelFacts& facts : *kernels) ours += facts.count(opcode);
      const auto theirs = said.find(std::string(opcode));
      EXPECT_EQ(ours, theirs == said.end() ? 0 : theirs->second) << opcode;
    }
  }
  if (!found) GTEST_SKIP() << "nvdisasm is not on PATH";
}

TEST(Cubin, ThatIsBrokenIsAnErrorAndNeverAnOverrun) {
  TILEWRIGHT_NEEDS_NVRTC();
  EXPECT_FALSE(read_cubin(""));
  EXPECT_FALSE(read_cubin("no ELF file at all"));
  ASSERT_FALSE(binaries().empty());
  const std::string& whole = binaries()[0].second.cubin;
  for (size_t length = 0; length < whole.size(); length += 197) {
    const std::string cut(whole.data(), length);  // exact size: reads beyond it are seen by the sanitizer
    (void)read_cubin(cut);
  }
  uint64_t state = 1;
  for (int i = 0; i < 400; ++i) {
    std::string damaged = whole;
    for (int k = 0; k < 8; ++k) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      damaged[(state >> 33) % (k < 4 ? 64 : damaged.size())] = static_cast<char>(state >> 20);
    }
    (void)read_cubin(damaged);
  }
}

TEST(PtxasLog, NamesTheCodesOfItsWarnings) {
  const PtxasLog log = parse_ptxas_log(
      "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to "
      "insufficient register resources for the wgmma pipeline in function 'f'\n"
      "ptxas info    : Compiling entry function 'f' for 'sm_90a'\n"
      "ptxas         .     16 bytes stack frame, 24 bytes spill stores, 32 bytes spill loads\n"
      "ptxas info    : Used 168 registers, used 1 barriers\n");
  ASSERT_EQ(log.warnings.size(), 1u);
  EXPECT_EQ(log.warnings[0].code, "C7510");
  ASSERT_EQ(log.kernels.size(), 1u);
  EXPECT_EQ(log.kernels[0].symbol, "f");
  EXPECT_EQ(log.kernels[0].stack_bytes, 16);
  EXPECT_EQ(log.kernels[0].spill_store_bytes, 24);
  EXPECT_EQ(log.kernels[0].spill_load_bytes, 32);
  EXPECT_EQ(log.kernels[0].registers, 168);
}

TEST(PtxasLog, FindsAWgmmaThatWasMadeSerial) {
  TILEWRIGHT_NEEDS_NVRTC();
  constexpr const char* kSerial = R"(
extern "C" __global__ void serial(float* x, unsigned long long a, unsigned long long b, int n) {
  float d[4] = {0, 0, 0, 0};
#pragma unroll 1
  for (int i = 0; i < n; ++i) {
    for (int k = 0; k < 2; ++k) {
      asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0,%1,%2,%3}, %4, %5, 1, 1, 1, 0, 0;"
                   : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "l"(a), "l"(b));
      d[0] += x[i];
    }
  }
  asm volatile("wgmma.commit_group.sync.aligned;");
  asm volatile("wgmma.wait_group.sync.aligned 0;");
  x[0] = d[0] + d[1] + d[2] + d[3];
})";
  const auto target = parse_cuda_target("sm_90a");
  if (!nvrtc()->check(*target)) GTEST_SKIP() << "this NVRTC does not know sm_90a";
  const auto binary = compile_cuda_text(kSerial, *target, *nvrtc());
  ASSERT_TRUE(binary) << to_string(binary.error());
  const PtxasLog log = parse_ptxas_log(binary->log);
  ASSERT_FALSE(log.warnings.empty()) << binary->log;
  EXPECT_TRUE(log.warnings[0].code.starts_with("C75")) << log.warnings[0].line;
}

#ifdef TILEWRIGHT_HAS_OCCUPANCY
TEST(Occupancy, IsThatOfTheToolkit) {
  for (const CudaTarget& target : cuda_targets()) {
    if (target.capability > 90) continue;  // the header knows no blocks per multiprocessor of its newest architectures
    cudaOccDeviceProp device;
    device.computeMajor = target.capability / 10;
    device.computeMinor = target.capability % 10;
    device.maxThreadsPerBlock = 1024;
    device.maxThreadsPerMultiprocessor = static_cast<int>(target.threads_per_multiprocessor);
    device.regsPerBlock = device.regsPerMultiprocessor = static_cast<int>(target.registers_per_multiprocessor);
    device.warpSize = 32;
    device.sharedMemPerBlock = 48 << 10;
    device.sharedMemPerMultiprocessor = static_cast<size_t>(target.shared_bytes_per_multiprocessor);
    device.numSms = target.multiprocessors;
    device.sharedMemPerBlockOptin = static_cast<size_t>(target.shared_bytes_per_block);
    device.reservedSharedMemPerBlock = 1024;
    for (const int registers : {16, 32, 40, 63, 96, 128, 168, 255})
      for (const int threads : {32, 96, 128, 256, 384, 512, 1024})
        for (const int64_t dynamic : {0, 1000, 20000, 49152, 98304, 101376, 163840, 232448}) {
          if (dynamic > target.shared_bytes_per_block) continue;
          cudaOccFuncAttributes function;
          function.maxThreadsPerBlock = 1024;
          function.numRegs = registers;
          function.sharedSizeBytes = 512 * (dynamic < 90000);
          function.partitionedGCConfig = PARTITIONED_GC_OFF;
          function.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
          function.maxDynamicSharedSizeBytes = static_cast<size_t>(dynamic);
          function.numBlockBarriers = 1;
          cudaOccDeviceState state;
          state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
          cudaOccResult theirs;
          ASSERT_EQ(cudaOccMaxActiveBlocksPerMultiprocessor(&theirs, &device, &function, &state, threads,
                                                            static_cast<size_t>(dynamic)),
                    CUDA_OCC_SUCCESS);
          KernelFacts facts;
          facts.registers = registers;
          facts.static_shared = static_cast<int64_t>(function.sharedSizeBytes);
          const Occupancy ours = occupancy(facts, threads, dynamic, target);
          EXPECT_EQ(ours.blocks, theirs.activeBlocksPerMultiprocessor)
              << target.architecture() << " registers " << registers << " threads " << threads << " dynamic " << dynamic
              << " limited by " << ours.limited_by;
        }
  }
}
#else
TEST(Occupancy, IsThatOfTheToolkit) { GTEST_SKIP() << "cuda_occupancy.h was not found at build time"; }
#endif

TEST(Occupancy, NamesWhatLimitsIt) {
  const CudaTarget& sm80 = cuda_targets()[0];
  KernelFacts facts;
  facts.registers = 128;
  EXPECT_EQ(occupancy(facts, 128, 0, sm80).limited_by, "registers");
  EXPECT_EQ(occupancy(facts, 128, 0, sm80).blocks, 4);
  EXPECT_EQ(occupancy(facts, 128, 80 << 10, sm80).limited_by, "shared memory");
  EXPECT_EQ(occupancy(facts, 128, 80 << 10, sm80).blocks, 2);
  EXPECT_EQ(occupancy(facts, 128, 164 << 10, sm80).blocks, 0);
}

}  // namespace
}  // namespace tilewright
