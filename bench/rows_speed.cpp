// Forward speed against the peak that it is up to, threads against one thread, and how exact f32 on AMX is.
#include "bench/row_context.h"
#include "ir/accuracy.h"

namespace tilewright::bench {
namespace {

struct ForwardCase {
  const char* name;
  int64_t heads, head_dim;
  Scores scores;
  double target;
};

/// Rows that differ in shapes only.
struct ForwardGroup {
  const char* name;
  DType dtype;
  PrecisionPolicy precision;
  CpuTemplate expected;
  std::vector<ForwardCase> cases;

  bool amx() const { return expected == CpuTemplate::amx_prefill; }
  RowKernel kernel(const ForwardCase& test, int64_t length = 4096) const {
    return {attention_graph({dtype, test.heads, test.heads, test.head_dim}, test.scores),
            {{"B", 1}, {"Sq", length}, {"Sk", length}},
            {expected},
            precision};
  }
};

const ForwardCase kFull64{"h8 d64 S4096 full", 8, 64, Scores::plain, 0},
    kCausal64{"h8 d64 S4096 causal", 8, 64, Scores::causal, 0},
    kFull128{"h32 d128 S4096 full", 32, 128, Scores::plain, 0},
    kCausal128{"h32 d128 S4096 causal", 32, 128, Scores::causal, 0},
    kFull256{"h8 d256 S4096 full", 8, 256, Scores::plain, 0};

ForwardCase with_bar(ForwardCase test, double target) {
  test.target = target;
  return test;
}

/// By the FLOP rule: causal is half of full.
double forward_flops(const ForwardCase& test) {
  return 4.0 * static_cast<double>(test.heads * test.head_dim) * 4096 * 4096 *
         (test.scores == Scores::causal ? 0.5 : 1);
}

Result<Done> forward_share_rows(const RowContext& context, const ForwardGroup& group, Peak peak, const char* unit) {
  for (const ForwardCase& test : group.cases) {
    Row row{.group = group.name, .name = test.name, .unit = unit, .bar = Bar{test.target}};
    if (peak == Peak::amx && test.head_dim == 128) row.note = "what we want to claim: 60 %";
    if (!context.wanted(row) || (group.amx() && !context.on_amx(row))) continue;
    if (auto ok = context.share_of_peak(row, group.kernel(test), forward_flops(test), peak); !ok) return ok;
  }
  return Done{};
}

Result<Done> two_thread_rows(const RowContext& context, const ForwardGroup& group) {
  for (const ForwardCase& test : group.cases) {
    Row row{.group = group.name, .name = test.name, .bar = Bar{test.target}};
    if (!context.wanted(row) || (group.amx() && !context.on_amx(row))) continue;
    if (auto ok = context.two_threads(row, group.kernel(test), forward_flops(test)); !ok) return ok;
  }
  return Done{};
}

/// The largest error over that of the same arithmetic in naive f32, by the oracle; short sequences, since that takes
/// all products in f64.
Result<Done> error_rows(const RowContext& given, const ForwardGroup& group) {
  // Emulated tiles round as the unit does.
  const auto emulated = Engine::create({.threads = 1, .isa = CpuIsa::amx_emulated});
  const bool emulate = given.engine.target().isa == CpuIsa::avx512 && emulated;
  const RowContext context = emulate ? given.on(*emulated) : given;
  for (ForwardCase test : group.cases) {
    const std::string name =
        fmt::format("d{} S1024 {}", test.head_dim, test.scores == Scores::causal ? "causal" : "full");
    Row row{.group = group.name, .name = name, .unit = "x", .bar = Bar{test.target, false}};
    if (!context.wanted(row) || (!emulate && !context.on_amx(row))) continue;
    test.heads = 1;
    const auto prepared = context.subject(row, group.kernel(test, 1024));
    if (!prepared) return prepared.error();
    if (!*prepared) continue;
    const Subject& subject = **prepared;
    row.ms = Figure::exactly(1e3 * context.run_one(subject));
    const auto reports = verify_outputs(subject.kernel().graph(), subject.dims(), subject.inputs(), subject.outputs());
    if (!reports) return reports.error();
    const AccuracyReport& report = reports->front();
    row.value = Figure::exactly(report.max_error / report.naive_max_error);
    row.note = fmt::format("{}largest error {:.2g}, of naive f32 {:.2g}", emulate ? "on emulated tiles: " : "",
                           report.max_error, report.naive_max_error);
    if (!report.pass) row.fall_back = "the result is wrong: " + report.failure;
    context.emit(row);
  }
  return Done{};
}

}  // namespace

Result<Done> speed_rows(const RowContext& context) {
  const ForwardGroup f32{
      "speed f32, 1 thread",
      DType::f32,
      PrecisionPolicy::f32_fma,
      CpuTemplate::prefill,
      {with_bar(kFull64, 75), with_bar(kCausal64, 70), with_bar(kFull128, 75), with_bar(kCausal128, 70)}};
  const ForwardGroup bf16{"speed bf16 on AMX, 1 thread",
                          DType::bf16,
                          PrecisionPolicy::f32,
                          CpuTemplate::amx_prefill,
                          {with_bar(kFull64, 36), with_bar(kCausal64, 34), with_bar(kFull128, 45),
                           with_bar(kCausal128, 40), with_bar(kFull256, 45)}};
  const ForwardGroup x6{
      "f32 on AMX, 1 thread, times the FMA peak",
      DType::f32,
      PrecisionPolicy::f32,
      CpuTemplate::amx_prefill,
      {with_bar(kFull64, 1.30), with_bar(kCausal64, 1.22), with_bar(kFull128, 1.40), with_bar(kCausal128, 1.30)}};
  const ForwardGroup x3{"f32_x3 on AMX, 1 thread, times the FMA peak",
                        DType::f32,
                        PrecisionPolicy::f32_x3,
                        CpuTemplate::amx_prefill,
                        {with_bar(kFull64, 1.95), with_bar(kFull128, 2.3)}};
  const ForwardGroup errors{
      "f32 on AMX, largest error over naive f32's",
      DType::f32,
      PrecisionPolicy::f32,
      CpuTemplate::amx_prefill,
      {with_bar(kFull64, 1), with_bar(kCausal64, 1), with_bar(kFull128, 1), with_bar(kCausal128, 1)}};
  if (auto ok = forward_share_rows(context, f32, Peak::fma, "%"); !ok) return ok;
  if (auto ok = forward_share_rows(context, bf16, Peak::amx, "%"); !ok) return ok;
  if (auto ok = forward_share_rows(context, x6, Peak::fma, "x"); !ok) return ok;
  if (auto ok = forward_share_rows(context, x3, Peak::fma, "x"); !ok) return ok;
  return error_rows(context, errors);
}

Result<Done> thread_rows(const RowContext& context) {
  const ForwardGroup f32{"two threads",
                         DType::f32,
                         PrecisionPolicy::f32_fma,
                         CpuTemplate::prefill,
                         {with_bar(kFull64, 1.9), with_bar(kCausal64, 1.9)}};
  const ForwardGroup bf16{"two threads, bf16 on AMX",
                          DType::bf16,
                          PrecisionPolicy::f32,
                          CpuTemplate::amx_prefill,
                          {with_bar(kFull64, 1.85), with_bar(kCausal64, 1.85), with_bar(kFull128, 1.85)}};
  if (auto ok = two_thread_rows(context, f32); !ok) return ok;
  return two_thread_rows(context, bf16);
}

}  // namespace tilewright::bench
