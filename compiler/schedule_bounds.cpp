#include "compiler/schedule_bounds.h"

#include <algorithm>

#include "compiler/plan_rules.h"

namespace tilewright {
namespace {

/// Far above any cache and far below any overflow of the sums here.
constexpr int64_t kLargestInteger = 1 << 22;

/// Complaints about one schedule; the first one counts.
class Bounds {
 public:
  Bounds(const CpuSchedule& schedule, const ScheduledStep& step, const CpuTarget& target)
      : s_(schedule), step_(step), target_(target), shape_(shape_of(step)) {}

  Result<Done> check() {
    common();
    if (!failure_.empty()) return invalid("{}", failure_);  // integers out of range have no sums
    switch (s_.kernel) {
      case CpuTemplate::prefill: prefill(); break;
      case CpuTemplate::decode:
      case CpuTemplate::amx_decode: decode(); break;
      case CpuTemplate::backward: backward(); break;
      case CpuTemplate::amx_backward: amx_backward(); break;
      case CpuTemplate::matmul: matmul(); break;
      case CpuTemplate::matvec: matvec(); break;
      case CpuTemplate::generic: generic(); break;
      case CpuTemplate::amx_prefill: amx_prefill(); break;
      case CpuTemplate::loop:
      case CpuTemplate::ahead_of_time: break;
    }
    if (failure_.empty()) return Done{};
    return invalid("{}", failure_);
  }

 private:
  template <class... Args>
  void require(bool holds, fmt::format_string<Args...> sentence, Args&&... args) {
    if (!holds && failure_.empty()) failure_ = fmt::format(sentence, std::forward<Args>(args)...);
  }

  void in_range(std::string_view name, int64_t value, int64_t least, int64_t most = kLargestInteger) {
    require(value >= least && value <= most, "{} is {}; it may be {} to {}", name, value, least, most);
  }
  void multiple(std::string_view name, int64_t value, int64_t unit, std::string_view unit_name) {
    require(unit > 0 && value % unit == 0, "{} {} is no multiple of the {} {}", name, value, unit, unit_name);
  }

  void common() {
    for (const ScheduleField& field : schedule_fields()) in_range(field.name, s_.*field.member, 0);
    in_range("share_packed", s_.share_packed, 0, 1);
    require(s_.isa <= target_.isa, "the schedule is for {}, which this target ({}) does not have", to_string(s_.isa),
            to_string(target_.isa));
    if (s_.kernel == CpuTemplate::loop) return;
    const int64_t lanes = (s_.isa >= CpuIsa::avx512 ? 64 : 32) / shape_.element;
    require(s_.lanes == lanes, "lanes is {}; a vector of {} holds {} of these elements", s_.lanes, to_string(s_.isa),
            lanes);
    in_range("mr", s_.mr, 1, 32);
    in_range("nv", s_.nv, 1, 32);
    in_range("k_unroll", s_.k_unroll, 1, 8);
    if (s_.kernel != CpuTemplate::amx_prefill && s_.kernel != CpuTemplate::amx_backward) {
      in_range("products", s_.products, 1, 1);
      in_range("value_products", s_.value_products, 1, 1);
    }
  }

  void registers() {
    const int64_t all = s_.isa >= CpuIsa::avx512 ? 32 : 16, used = s_.mr * s_.nv + s_.nv + 1;
    require(used <= all, "a {}x{} micro-kernel takes {} vector registers; {} has {}", s_.mr, s_.nv, used,
            to_string(s_.isa), all);
  }
  void unroll(int64_t unit) {
    require(s_.k_unroll > 0 && unit % s_.k_unroll == 0,
            "k_unroll {} is no divisor of the {} elements that packing moves at once", s_.k_unroll, unit);
  }
  /// `what` says which integers take the memory, "{} KB" is filled in.
  void l1(const std::string& what, std::string_view of) {
    const int64_t bytes = inner_tile(s_, step_);
    require(bytes <= target_.l1_bytes, "{} {} KB{}, more than the {} KB L1", what, bytes >> 10, of,
            target_.l1_bytes >> 10);
  }
  void l2(const std::string& what, std::string_view of) {
    const int64_t bytes = working_set(s_, step_);
    require(bytes <= target_.l2_bytes, "{} {} KB{}, more than the {} KB L2", what, bytes >> 10, of,
            target_.l2_bytes >> 10);
  }
  void attention_l2() {
    l2(fmt::format("block_q {} and block_kv {} take", s_.block_q, s_.block_kv), " for Q, O, K and V");
  }

  void prefill() {
    registers();
    unroll(16 / shape_.element);
    in_range("block_q", s_.block_q, 1);
    in_range("block_kv", s_.block_kv, 1);
    in_range("strip_rows", s_.strip_rows, 1);
    multiple("strip_rows", s_.strip_rows, s_.mr, "rows of the micro-kernel");
    multiple("block_q", s_.block_q, s_.strip_rows, "rows of a strip");
    multiple("block_kv", s_.block_kv, s_.nr(), "keys of a panel");
    attention_l2();
    l1(fmt::format("block_kv {}: a strip of {} rows takes", s_.block_kv, s_.strip_rows), " of scores");
  }

  /// Tiles of 16 × 16 sums, two by two.
  void amx_prefill() {
    in_range("block_q", s_.block_q, 1);
    in_range("block_kv", s_.block_kv, 1);
    multiple("block_q", s_.block_q, 32, "rows of two tiles");
    if (const auto* program = std::get_if<const TileProgram*>(&step_)) {
      multiple("block_kv", s_.block_kv, amx_block_unit((*program)->spec.value_dim), "keys of pairs of tiles");
      // Accuracy is the precision policy's to choose, not a schedule's; what tiles do not use stays as it is.
      const CpuSchedule rules = schedule_amx_prefill(**program, target_);
      for (const auto& [name, member] : {std::pair{"mr", &CpuSchedule::mr},
                                         {"nv", &CpuSchedule::nv},
                                         {"strip_rows", &CpuSchedule::strip_rows},
                                         {"k_unroll", &CpuSchedule::k_unroll}})
        in_range(name, s_.*member, rules.*member, rules.*member);
      products(rules);
    }
    attention_l2();
  }

  /// What operands and policy ask for, and nothing else.
  void products(const CpuSchedule& rules) {
    in_range("products", s_.products, rules.products, rules.products);
    in_range("value_products", s_.value_products, rules.value_products, rules.value_products);
  }

  void decode() {
    in_range("block_q", s_.block_q, 1);
    in_range("split_kv", s_.split_kv, s_.lanes);
    in_range("block_kv", s_.block_kv, 1);
    multiple("block_kv", s_.block_kv, s_.lanes, "lanes of a vector");
    require(s_.block_kv <= s_.split_kv, "block_kv {} is more than the {} keys of a split (split_kv)", s_.block_kv,
            s_.split_kv);
    if (const auto* program = std::get_if<const TileProgram*>(&step_))
      require(s_.block_q == rows_of_decode((*program)->spec),
              "block_q is {}; decode takes the {} rows that share a KV head", s_.block_q,
              rows_of_decode((*program)->spec));
    l2(fmt::format("{} query rows and their scores of block_kv {} keys take", s_.block_q, s_.block_kv), "");
  }

  int64_t rows_of_decode(const AttentionSpec& spec) const {
    constexpr int64_t kTileRows = 16;
    return s_.kernel == CpuTemplate::amx_decode ? std::min(decode_rows(spec), kTileRows) : decode_rows(spec);
  }

  void backward() {
    registers();
    unroll(16 / shape_.element);
    in_range("block_q", s_.block_q, 1);
    in_range("block_kv", s_.block_kv, 1);
    in_range("chunk_kv", s_.chunk_kv, 1);
    multiple("block_q", s_.block_q, s_.mr, "rows of the micro-kernel");
    multiple("block_kv", s_.block_kv, s_.nr(), "keys of a panel");
    multiple("chunk_kv", s_.chunk_kv, s_.block_kv, "keys of a block (block_kv)");
    backward_l2();
  }

  void amx_backward() {
    if (const auto* spec = std::get_if<const BackwardSpec*>(&step_)) products(schedule_amx_backward(**spec, target_));
    in_range("block_q", s_.block_q, 1);
    in_range("block_kv", s_.block_kv, 1);
    in_range("chunk_kv", s_.chunk_kv, 1);
    multiple("block_q", s_.block_q, 32, "rows of two tiles");
    multiple("block_kv", s_.block_kv, 32, "keys of two tiles");
    multiple("chunk_kv", s_.chunk_kv, s_.block_kv, "keys of a block (block_kv)");
    backward_l2();
  }

  void backward_l2() {
    l2(fmt::format("block_q {} and block_kv {} take", s_.block_q, s_.block_kv),
       fmt::format(" for a chunk of {} keys", s_.chunk_kv));
  }

  void matmul() {
    registers();
    unroll(std::max<int64_t>(4, 16 / shape_.element));
    in_range("block_m", s_.block_m, 1);
    in_range("block_n", s_.block_n, 1);
    in_range("block_k", s_.block_k, 1);
    multiple("block_m", s_.block_m, s_.mr, "rows of the micro-kernel");
    multiple("block_n", s_.block_n, s_.nr(), "columns of a panel");
    multiple("block_k", s_.block_k, s_.lanes, "lanes of a vector");
    l1(fmt::format("a panel of B, block_k {} deep and {} columns wide, takes", s_.block_k, s_.nr()), "");
    l2(fmt::format("A and C of block_m {} rows and block_n {} columns take", s_.block_m, s_.block_n), "");
  }

  void matvec() {
    in_range("block_m", s_.block_m, 1, 64);
    in_range("block_n", s_.block_n, 1);
    in_range("block_k", s_.block_k, 1);
    multiple("block_n", s_.block_n, s_.nr(), "columns of a step");
    multiple("block_k", s_.block_k, s_.lanes, "lanes of a vector");
    l2(fmt::format("A and C of {} rows, block_n {} columns and block_k {} take", s_.block_m, s_.block_n, s_.block_k),
       "");
  }

  void generic() {
    in_range("block_q", s_.block_q, 1);
    in_range("block_kv", s_.block_kv, 1);
    if (std::holds_alternative<const BackwardSpec*>(step_)) return backward_l2();
    multiple("block_kv", s_.block_kv, s_.lanes, "lanes of a vector");
    attention_l2();
  }

  const CpuSchedule& s_;
  const ScheduledStep& step_;
  const CpuTarget& target_;
  StepShape shape_;
  std::string failure_;
};

}  // namespace

StepShape shape_of(const ScheduledStep& step) {
  StepShape shape;
  if (const auto* program = std::get_if<const TileProgram*>(&step)) {
    const AttentionSpec& spec = (*program)->spec;
    shape.element = size_of(spec.accumulate);
    for (const DotTerm& dot : spec.dots) shape.score_columns += dot.head_dim;
    shape.value_columns = spec.value_dim;
  } else if (const auto* backward = std::get_if<const BackwardSpec*>(&step)) {
    shape.element = size_of((*backward)->accumulate);
    shape.score_columns = shape.value_columns = backward_width(**backward);
  } else {
    shape.element = size_of(std::get<const LoopStep*>(step)->accumulate);
  }
  return shape;
}

int64_t working_set(const CpuSchedule& s, const ScheduledStep& step) {
  if (const auto* backward = std::get_if<const BackwardSpec*>(&step)) return backward_working_set(s, **backward);
  const StepShape shape = shape_of(step);
  if (s.kernel == CpuTemplate::matmul || s.kernel == CpuTemplate::matvec)
    return s.block_m * (s.block_k + s.block_n) * shape.element;
  if (is_decode(s.kernel))  // K and V stream past
    return s.block_q * (shape.score_columns + shape.value_columns + s.block_kv) * shape.element;
  return (s.block_q + s.block_kv) * (shape.score_columns + shape.value_columns) * shape.element;
}

int64_t inner_tile(const CpuSchedule& s, const ScheduledStep& step) {
  const int64_t element = shape_of(step).element;
  if (s.kernel == CpuTemplate::prefill) return s.strip_rows * s.block_kv * element;
  if (s.kernel == CpuTemplate::matmul) return s.block_k * s.nr() * element;
  return 0;
}

Result<Done> validate(const CpuSchedule& schedule, const ScheduledStep& step, const CpuTarget& target) {
  return Bounds(schedule, step, target).check();
}

}  // namespace tilewright
