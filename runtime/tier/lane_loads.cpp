#include "runtime/tier/lane_loads.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/convert.h"

namespace tilewright::tier {
namespace {

template <class From, class To>
void widen_each(const void* elements, void* lanes, int64_t count) {
  const auto* from = static_cast<const std::byte*>(elements);
  auto* to = static_cast<To*>(lanes);
  for (int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + i * static_cast<int64_t>(sizeof(From)), sizeof value);
    to[i] = static_cast<To>(value);
  }
}

template <class Bits, class Offset>
void gather_each(const std::byte* base, int64_t count, std::byte* packed, const Offset& offset) {
  constexpr auto kSize = static_cast<int64_t>(sizeof(Bits));
  for (int64_t i = 0; i < count; ++i) std::memcpy(packed + i * kSize, base + offset(i) * kSize, sizeof(Bits));
}

template <class Offset>
void gather_sized(DType dtype, const std::byte* base, int64_t count, std::byte* packed, const Offset& offset) {
  switch (size_of(dtype)) {
    case 8: return gather_each<uint64_t>(base, count, packed, offset);
    case 4: return gather_each<uint32_t>(base, count, packed, offset);
    case 2: return gather_each<uint16_t>(base, count, packed, offset);
    default: return gather_each<uint8_t>(base, count, packed, offset);
  }
}

template <class T>
T extreme(bool least, T best, T next) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(best)) return best;
    if (std::isnan(next)) return next;
  }
  return least ? std::min(best, next) : std::max(best, next);
}

template <class T>
void extreme_over(const Instr& instr, const std::byte* base, const int64_t* strides, const int64_t* low,
                  const int64_t* high, int rank, T* best) {
  std::array<int64_t, kMaxRank> at{};
  std::copy(low, low + rank, at.begin());
  const int last = rank - 1;
  const int64_t run = rank ? high[last] - low[last] + 1 : 1, step = rank ? strides[last] : 0,
                size = size_of(instr.from);
  alignas(64) std::byte packed[kRegisterBytes];
  alignas(64) T lanes[kLanes];
  for (bool first = true;;) {
    int64_t offset = 0;
    for (int i = 0; i < rank; ++i) offset += at[static_cast<size_t>(i)] * strides[i];
    for (int64_t done = 0; done < run; done += kLanes) {
      const int64_t count = std::min(kLanes, run - done);
      gather_run(instr.from, base + (offset + done * step) * size, step, count, packed);
      widen(instr.from, packed, lanes, count);
      for (int64_t i = 0; i < count; ++i) {
        *best = first ? lanes[i] : extreme(instr.least, *best, lanes[i]);
        first = false;
      }
    }
    int axis = last - 1;
    for (; axis >= 0 && at[static_cast<size_t>(axis)] == high[axis]; --axis) at[static_cast<size_t>(axis)] = low[axis];
    if (axis < 0) return;
    ++at[static_cast<size_t>(axis)];
  }
}

}  // namespace

void widen(DType dtype, const void* elements, void* lanes, int64_t count) {
  switch (dtype) {
    case DType::f64:
    case DType::i64: std::memcpy(lanes, elements, static_cast<size_t>(count) * 8); return;
    case DType::f32: std::memcpy(lanes, elements, static_cast<size_t>(count) * 4); return;
    case DType::f16:
      return convert_f16_to_f32(static_cast<const uint16_t*>(elements), static_cast<float*>(lanes), count);
    case DType::bf16:
      return convert_bf16_to_f32(static_cast<const uint16_t*>(elements), static_cast<float*>(lanes), count);
    case DType::i32: return widen_each<int32_t, int64_t>(elements, lanes, count);
    case DType::i8: return widen_each<int8_t, int64_t>(elements, lanes, count);
    case DType::boolean: {
      const auto* from = static_cast<const uint8_t*>(elements);
      auto* to = static_cast<int64_t*>(lanes);
      for (int64_t i = 0; i < count; ++i) to[i] = from[i] != 0;
      return;
    }
  }
}

void gather_run(DType dtype, const std::byte* base, int64_t step, int64_t count, std::byte* packed) {
  if (step == 1) {
    std::memcpy(packed, base, static_cast<size_t>(count * size_of(dtype)));
    return;
  }
  gather_sized(dtype, base, count, packed, [step](int64_t i) { return i * step; });
}

void gather(DType dtype, const std::byte* base, const int64_t* offsets, int64_t count, std::byte* packed) {
  gather_sized(dtype, base, count, packed, [offsets](int64_t i) { return offsets[i]; });
}

void load_extreme(const Instr& instr, const LaneContext& context, std::byte* registers) {
  const int64_t* shape = context.args->meta + instr.shape_at;
  const int64_t* strides = context.args->meta + instr.stride_at;
  const int rank = instr.count / 2;
  std::array<int64_t, kMaxRank> low{}, high{};
  const auto argument = [&](int i) {
    int64_t value = 0;
    std::memcpy(&value, registers + instr.args[static_cast<size_t>(i)] * kRegisterBytes, sizeof value);
    return value;
  };
  for (int i = 0; i < rank; ++i) {
    const auto clamped = [&](int64_t index) { return std::max<int64_t>(0, std::min(index, shape[i] - 1)); };
    low[static_cast<size_t>(i)] = clamped(argument(i));
    high[static_cast<size_t>(i)] = std::max(low[static_cast<size_t>(i)], clamped(argument(rank + i)));
  }
  const auto* base = static_cast<const std::byte*>(context.args->tensors[instr.tensor]);
  std::byte* dst = registers + instr.dst * kRegisterBytes;
  switch (lane_of(instr.from)) {
    case Lane::f32:
      return extreme_over(instr, base, strides, low.data(), high.data(), rank, reinterpret_cast<float*>(dst));
    case Lane::f64:
      return extreme_over(instr, base, strides, low.data(), high.data(), rank, reinterpret_cast<double*>(dst));
    case Lane::integer:
      return extreme_over(instr, base, strides, low.data(), high.data(), rank, reinterpret_cast<int64_t*>(dst));
  }
}

}  // namespace tilewright::tier
