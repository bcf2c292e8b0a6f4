#include "ir/op_attributes.h"

#include <array>

namespace tilewright {
namespace {

constexpr std::array<std::string_view, 16> kNames = {"axis",   "keepdims", "perm", "begin", "end",  "times",
                                                     "left",   "right",    "cap",  "align", "rate", "sink",
                                                     "slopes", "q_offset", "seed", "offset"};

using enum AttributeKind;
constexpr AttributeRule kAxis[] = {{axis, true}};
constexpr AttributeRule kReduce[] = {{axis, true}, {keepdims, false}};
constexpr AttributeRule kSoftmax[] = {{axis, true}, {sink, false}};
constexpr AttributeRule kLogsumexp[] = {{axis, true}, {keepdims, false}, {sink, false}};
constexpr AttributeRule kTranspose[] = {{perm, true}};
constexpr AttributeRule kSlice[] = {{axis, true}, {begin, true}, {end, true}};
constexpr AttributeRule kRepeat[] = {{times, true}};
constexpr AttributeRule kCausal[] = {{align, false}, {q_offset, false}};
constexpr AttributeRule kWindow[] = {{left, true}, {right, true}, {align, false}, {q_offset, false}};
constexpr AttributeRule kAlibi[] = {{slopes, false}, {align, false}, {q_offset, false}};
constexpr AttributeRule kSoftcap[] = {{cap, true}};
constexpr AttributeRule kDropout[] = {{seed, true}, {offset, true}, {rate, true}};

}  // namespace

std::string_view to_string(AttributeKind kind) { return kNames[static_cast<size_t>(kind)]; }

std::optional<AttributeKind> parse_attribute_kind(std::string_view text) {
  for (size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == text) return static_cast<AttributeKind>(i);
  return std::nullopt;
}

std::span<const AttributeRule> attributes_of(Op op) {
  switch (op) {
    case Op::index:
    case Op::concat:
    case Op::update: return kAxis;
    case Op::reduce_sum:
    case Op::reduce_max:
    case Op::reduce_min:
    case Op::reduce_mean: return kReduce;
    case Op::softmax: return kSoftmax;
    case Op::logsumexp: return kLogsumexp;
    case Op::transpose: return kTranspose;
    case Op::slice: return kSlice;
    case Op::repeat_heads: return kRepeat;
    case Op::mask_causal: return kCausal;
    case Op::mask_window: return kWindow;
    case Op::alibi: return kAlibi;
    case Op::softcap: return kSoftcap;
    case Op::dropout: return kDropout;
    default: return {};
  }
}

size_t operand_position(Op op, AttributeKind kind) {
  if (kind == sink || kind == slopes || kind == seed) return 1;
  if (kind == offset) return 2;
  if (kind == q_offset) return op == Op::alibi ? 2 : 1;
  return 0;
}

}  // namespace tilewright
