#include "emulator/tensor_map.h"

namespace tilewright {
namespace {

constexpr uint64_t kMagic = 0x70616d726f736e65;  // "ensormap"

// Words: 0 magic, 1 base, 2 rank | element bytes | swizzle, 3–7 extents, 8–11 strides, 12–13 box, 16 bits each and 2–3.
constexpr size_t kExtents = 3, kStrides = 8, kBox = 12;

}  // namespace

Result<EmulatedTensorMap> encode_tensor_map(const TensorMapGeometry& geometry) {
  const size_t rank = geometry.extents.size();
  if (rank < 1 || rank > 5) return invalid("a tensor map of {} axes; it takes 1 to 5", rank);
  if (geometry.box.size() != rank || geometry.stride_bytes.size() != rank - 1)
    return invalid("a tensor map of {} axes takes {} box extents and {} strides, not {} and {}", rank, rank, rank - 1,
                   geometry.box.size(), geometry.stride_bytes.size());
  const int64_t bytes = geometry.element_bytes;
  if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8)
    return invalid("a tensor map over elements of {} bytes; it takes 1, 2, 4 or 8", bytes);
  if (const auto base = reinterpret_cast<uintptr_t>(geometry.base); base == 0 || base % 16 != 0)
    return invalid("a tensor map over memory at {}, which must be a multiple of 16", geometry.base);
  for (size_t axis = 0; axis < rank; ++axis) {
    if (geometry.extents[axis] < 1 || geometry.extents[axis] > int64_t{1} << 32)
      return invalid("a tensor map with extent {} on axis {}; it takes 1 to 2^32", geometry.extents[axis], axis);
    if (geometry.box[axis] < 1 || geometry.box[axis] > 256)
      return invalid("a tensor map with box extent {} on axis {}; it takes 1 to 256", geometry.box[axis], axis);
    if (axis == 0) continue;
    const int64_t stride = geometry.stride_bytes[axis - 1];
    if (stride < 0 || stride % 16 != 0 || stride >= int64_t{1} << 40)
      return invalid("a tensor map with a stride of {} bytes on axis {}; it takes multiples of 16 below 2^40", stride,
                     axis);
  }
  const int64_t swizzle = geometry.swizzle_bytes;
  if (swizzle != 0 && swizzle != 32 && swizzle != 64 && swizzle != 128)
    return invalid("a tensor map with a swizzle of {} bytes; it takes 0, 32, 64 or 128", swizzle);
  const int64_t row = geometry.box[0] * bytes;
  if (row % 16 != 0 || (swizzle != 0 && row > swizzle))
    return invalid("a tensor map with box rows of {} bytes; it takes multiples of 16, up to the swizzle's {}", row,
                   swizzle);
  if (swizzle != 0 && row != swizzle)
    return unsupported(
        "a tensor map with box rows of {} bytes and a swizzle of {}; the emulator takes rows as long as it", row,
        swizzle);

  EmulatedTensorMap map;
  map.words[0] = kMagic;
  map.words[1] = reinterpret_cast<uintptr_t>(geometry.base);
  map.words[2] = rank | static_cast<uint64_t>(bytes) << 8 | static_cast<uint64_t>(swizzle) << 16;
  for (size_t axis = 0; axis < rank; ++axis) {
    map.words[kExtents + axis] = static_cast<uint64_t>(geometry.extents[axis]);
    if (axis > 0) map.words[kStrides + axis - 1] = static_cast<uint64_t>(geometry.stride_bytes[axis - 1]);
    map.words[kBox + axis / 4] |= static_cast<uint64_t>(geometry.box[axis]) << (16 * (axis % 4));
  }
  return map;
}

std::optional<TensorMapGeometry> decode_tensor_map(const EmulatedTensorMap& map) {
  if (map.words[0] != kMagic) return std::nullopt;
  TensorMapGeometry geometry;
  geometry.base = reinterpret_cast<const void*>(map.words[1]);
  const size_t rank = map.words[2] & 0xff;
  geometry.element_bytes = static_cast<int64_t>(map.words[2] >> 8 & 0xff);
  geometry.swizzle_bytes = static_cast<int64_t>(map.words[2] >> 16 & 0xff);
  for (size_t axis = 0; axis < rank; ++axis) {
    geometry.extents.push_back(static_cast<int64_t>(map.words[kExtents + axis]));
    if (axis > 0) geometry.stride_bytes.push_back(static_cast<int64_t>(map.words[kStrides + axis - 1]));
    geometry.box.push_back(static_cast<int64_t>(map.words[kBox + axis / 4] >> (16 * (axis % 4)) & 0xffff));
  }
  return geometry;
}

}  // namespace tilewright
