// Shared memory of one thread block: bytes that start as NaN of every float type.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

namespace tilewright {

class SharedMemory {
 public:
  /// What the driver keeps for itself lies below; address 0 is never a kernel's.
  static constexpr uint32_t kBase = 1024;

  explicit SharedMemory(int64_t dynamic_bytes) : bytes_(kBase + static_cast<size_t>(dynamic_bytes)) { reset(); }
  void reset() { std::memset(bytes_.data(), 0xff, bytes_.size()); }
  bool contains(uint32_t address, uint32_t bytes) const {
    return address >= kBase && static_cast<uint64_t>(address) + bytes <= bytes_.size();
  }
  unsigned char* at(uint32_t address) { return bytes_.data() + address; }
  size_t end() const { return bytes_.size(); }

 private:
  std::vector<unsigned char> bytes_;
};

}  // namespace tilewright
