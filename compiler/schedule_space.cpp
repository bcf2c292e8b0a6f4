#include "compiler/schedule_space.h"

#include <algorithm>
#include <set>

#include "compiler/plan_rules.h"

namespace tilewright {
namespace {

using Member = int64_t CpuSchedule::*;

class SpaceBuilder {
 public:
  SpaceBuilder(const CpuSchedule& rules, const ScheduledStep& step) : rules_(rules), step_(step) {}

  ScheduleSpace build() {
    switch (rules_.kernel) {
      case CpuTemplate::prefill: prefill(); break;
      case CpuTemplate::decode: decode(); break;
      case CpuTemplate::backward: backward(); break;
      case CpuTemplate::amx_backward: amx_backward(); break;
      case CpuTemplate::matmul: matmul(); break;
      case CpuTemplate::matvec: matvec(); break;
      case CpuTemplate::generic: generic(); break;
      case CpuTemplate::amx_prefill: amx_prefill(); break;
      case CpuTemplate::amx_decode: decode_blocks(); break;
      case CpuTemplate::loop:
      case CpuTemplate::ahead_of_time: break;
    }
    return {rules_, std::move(axes_)};
  }

 private:
  /// The values and the rules' own, at most `most`.
  void axis(Member member, std::initializer_list<int64_t> values, int64_t most = INT64_MAX) {
    std::set<int64_t> tried{rules_.*member};
    for (const int64_t value : values)
      if (value <= most) tried.insert(value);
    const auto fields = schedule_fields();
    const auto field = std::ranges::find_if(fields, [&](const ScheduleField& f) { return f.member == member; });
    axes_.push_back({std::string(field->name), member, {tried.begin(), tried.end()}});
  }

  void micro_kernel() {
    if (rules_.isa >= CpuIsa::avx512) {
      axis(&CpuSchedule::mr, {3, 4, 6, 8, 12});
      axis(&CpuSchedule::nv, {2, 3, 4, 5, 7});
    } else {
      axis(&CpuSchedule::mr, {3, 4, 6});
      axis(&CpuSchedule::nv, {2, 3});
    }
    axis(&CpuSchedule::k_unroll, {1, 2, 4});
  }

  /// Rows of a query block that a known q_len fills.
  int64_t query_rows() const {
    const auto* forward = std::get_if<const TileProgram*>(&step_);
    const Dim& rows = forward ? (*forward)->spec.q_len : std::get<const BackwardSpec*>(step_)->q_len;
    return rows.is_constant() ? std::max<int64_t>(rows.constant(), 1) : INT64_MAX;
  }

  void prefill() {
    micro_kernel();
    axis(&CpuSchedule::strip_rows, {6, 12, 24, 48}, query_rows());
    axis(&CpuSchedule::block_kv, {64, 128, 192, 256, 384, 512, 1024});
    axis(&CpuSchedule::block_q, {24, 48, 96, 192, 384, 768}, query_rows());
    axis(&CpuSchedule::share_packed, {0, 1});
  }
  void amx_prefill() {
    axis(&CpuSchedule::block_q, {32, 64, 128, 256, 512, 1024}, query_rows());
    axis(&CpuSchedule::block_kv, {32, 64, 128, 256, 512});
    axis(&CpuSchedule::rescale_log2, {0, 8});
  }
  void decode() {
    axis(&CpuSchedule::mr, {1, 4}, rules_.block_q);
    decode_blocks();
  }
  void decode_blocks() {
    axis(&CpuSchedule::block_kv, {64, 128, 256, 512, 1024});
    axis(&CpuSchedule::split_kv, {128, 256, 512, 1024, 2048, 4096, 8192});
  }
  void backward() {
    micro_kernel();
    axis(&CpuSchedule::block_q, {24, 48, 96, 192});
    axis(&CpuSchedule::block_kv, {64, 128, 192, 256, 384});
    axis(&CpuSchedule::chunk_kv, {64, 128, 256, 384, 512, 768, 1024});
  }
  void amx_backward() {
    axis(&CpuSchedule::block_q, {32, 64, 128, 256}, query_rows());
    axis(&CpuSchedule::block_kv, {32, 64, 128, 256});
    axis(&CpuSchedule::chunk_kv, {128, 256, 384, 512, 768, 1024});
  }
  void matmul() {
    if (rules_.isa >= CpuIsa::avx512) {
      axis(&CpuSchedule::mr, {6, 8, 9, 12, 13, 14});
      axis(&CpuSchedule::nv, {2, 3, 4});
    } else {
      axis(&CpuSchedule::mr, {4, 6});
      axis(&CpuSchedule::nv, {2, 3});
    }
    axis(&CpuSchedule::k_unroll, {1, 2, 4});
    axis(&CpuSchedule::block_m, {56, 112, 196, 252, 378, 504});
    axis(&CpuSchedule::block_n, {128, 256, 512, 1024});
    axis(&CpuSchedule::block_k, {128, 192, 256, 320});
  }
  void matvec() {
    axis(&CpuSchedule::block_n, {256, 512, 1024, 2048, 4096});
    axis(&CpuSchedule::block_k, {256, 512, 1024, 2048});
  }
  void generic() {
    axis(&CpuSchedule::block_q, {4, 8, 16, 32, 64});
    axis(&CpuSchedule::block_kv, {32, 64, 128, 256});
  }

  const CpuSchedule& rules_;
  const ScheduledStep& step_;
  std::vector<ScheduleAxis> axes_;
};

int64_t round_down(int64_t value, int64_t unit) { return std::max(unit, value / unit * unit); }

}  // namespace

ScheduleSpace schedule_space(const CpuSchedule& rules, const ScheduledStep& step) {
  return SpaceBuilder(rules, step).build();
}

void settle(CpuSchedule& s) {
  switch (s.kernel) {
    case CpuTemplate::prefill:
      s.strip_rows = round_up(s.strip_rows, s.mr);
      s.block_q = round_up(s.block_q, s.strip_rows);
      s.block_kv = round_down(s.block_kv, s.nr());
      break;
    case CpuTemplate::decode:
    case CpuTemplate::amx_decode: s.block_kv = std::min(round_up(s.block_kv, s.lanes), s.split_kv); break;
    case CpuTemplate::backward:
      s.block_q = s.strip_rows = round_up(s.block_q, s.mr);
      s.block_kv = round_down(s.block_kv, s.nr());
      s.chunk_kv = round_down(s.chunk_kv, s.block_kv);
      break;
    case CpuTemplate::amx_backward: s.chunk_kv = round_down(s.chunk_kv, s.block_kv); break;
    case CpuTemplate::matmul:
      s.block_m = round_up(s.block_m, s.mr);
      s.block_n = round_up(s.block_n, s.nr());
      s.block_k = round_up(s.block_k, s.lanes);
      break;
    case CpuTemplate::generic: s.strip_rows = s.block_q; break;
    case CpuTemplate::amx_prefill:
    case CpuTemplate::matvec:
    case CpuTemplate::loop:
    case CpuTemplate::ahead_of_time: break;
  }
}

std::vector<CpuSchedule> legal_schedules(const ScheduleSpace& space, const ScheduledStep& step,
                                         const CpuTarget& target) {
  CpuSchedule plain = space.rules;
  plain.reasons.clear();
  std::vector<CpuSchedule> legal{plain};
  const auto integers = [](const CpuSchedule& s) {
    std::vector<int64_t> out;
    for (const ScheduleField& field : schedule_fields()) out.push_back(s.*field.member);
    return out;
  };
  std::set<std::vector<int64_t>> seen{integers(plain)};
  std::vector<size_t> at(space.axes.size(), 0);
  for (bool more = !space.axes.empty(); more;) {
    CpuSchedule s = plain;
    for (size_t i = 0; i < at.size(); ++i) s.*space.axes[i].member = space.axes[i].values[at[i]];
    settle(s);
    if (seen.insert(integers(s)).second && validate(s, step, target)) legal.push_back(std::move(s));
    more = false;
    for (size_t i = at.size(); i-- > 0 && !more;) {
      more = ++at[i] < space.axes[i].values.size();
      if (!more) at[i] = 0;
    }
  }
  return legal;
}

}  // namespace tilewright
