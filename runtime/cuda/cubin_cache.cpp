#include "runtime/cuda/cubin_cache.h"

#include <cstring>

#include "runtime/cuda/cubin.h"
#include "runtime/graph_key.h"
#include "runtime/options.h"

namespace tilewright {
namespace {

/// Changes with what encode_binary writes and with the options of compile_cuda_text.
constexpr int kCubinFormat = 1;

void put(std::string& out, std::string_view part) {
  const uint64_t bytes = part.size();
  out.append(reinterpret_cast<const char*>(&bytes), sizeof bytes);
  out += part;
}

bool take(std::string_view& in, std::string& part) {
  uint64_t bytes = 0;
  if (in.size() < sizeof bytes) return false;
  std::memcpy(&bytes, in.data(), sizeof bytes);
  in.remove_prefix(sizeof bytes);
  if (bytes > in.size()) return false;
  part = in.substr(0, bytes);
  in.remove_prefix(bytes);
  return true;
}

}  // namespace

std::string cubin_key(const std::string& text, const CudaTarget& target, const Nvrtc& compiler, int driver_version) {
  return fmt::format("cubin {} {} nvrtc {} driver {}\n{}", kCubinFormat, target.architecture(), compiler.version(),
                     driver_version, text);
}

std::string encode_binary(const CudaBinary& binary) {
  std::string out;
  for (const std::string* part : {&binary.architecture, &binary.cubin, &binary.ptx, &binary.log}) put(out, *part);
  return out;
}

std::optional<CudaBinary> decode_binary(std::string_view bytes) {
  CudaBinary binary;
  for (std::string* part : {&binary.architecture, &binary.cubin, &binary.ptx, &binary.log})
    if (!take(bytes, *part)) return std::nullopt;
  if (!bytes.empty()) return std::nullopt;
  return binary;
}

Result<CudaBinary> find_or_compile(const std::string& text, const CudaTarget& target, const Nvrtc& compiler,
                                   int driver_version, CacheWriter* cache) {
  if (!cache || !cache->cache().usable()) return compile_cuda_text(text, target, compiler);
  std::string key = cubin_key(text, target, compiler, driver_version);
  DiskCache::Lookup found = cache->cache().find(key);
  if (!found.problem.empty()) say_verbose(found.problem);
  if (found.payload) {
    if (auto binary = decode_binary(*found.payload); binary && read_cubin(binary->cubin)) {
      binary->from_disk = true;
      return std::move(*binary);
    }
    say_verbose(fmt::format("the kernel {} on disk is not used: what it holds is no cubin", full_hex(hash_key(key))));
  }
  auto binary = compile_cuda_text(text, target, compiler);
  if (binary) cache->store(std::move(key), encode_binary(*binary));
  return binary;
}

}  // namespace tilewright
