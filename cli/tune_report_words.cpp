#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/tune_report_charts.h"

namespace tilewright::cli {
namespace {

std::string unroll_text(const CpuSchedule& s) {
  return s.k_unroll > 1 ? fmt::format(", {} steps of the inner dim at a time", s.k_unroll) : "";
}

std::string micro_kernel_text(const CpuSchedule& s) {
  return fmt::format("The micro-kernel keeps {} x {} vectors of {} sums in registers{}.", s.mr, s.nv, s.lanes,
                     unroll_text(s));
}

}  // namespace

std::string dims_text(const DimBindings& dims) {
  std::string text;
  for (const auto& [name, size] : dims) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, size);
  return text;
}

std::string part_text(const TunedStep& step) {
  std::vector<std::string> sentences;
  if (step.measured_at != step.dims)
    sentences.push_back(
        fmt::format("Measured at {}, of the same class as {}.", dims_text(step.measured_at), dims_text(step.dims)));
  if (!step.slice.all())
    sentences.push_back(fmt::format("Candidates ran {} of the {} heads of keys.", step.slice.part, step.slice.whole));
  if (!step.best().whole.empty() && step.chosen != 0)
    sentences.push_back(
        fmt::format("On the whole the chosen schedule is {:.3f} times as fast as the rules'.", step.speedup()));
  return fmt::format("{}", fmt::join(sentences, " "));
}

std::vector<std::string> schedule_sentences(const CpuSchedule& s) {
  std::vector<std::string> out;
  switch (s.kernel) {
    case CpuTemplate::prefill:
      out.push_back(fmt::format("A work item takes {} query rows of one head and walks the keys {} at a time.",
                                s.block_q, s.block_kv));
      out.push_back(fmt::format(
          "Within it, strips of {} rows keep their {} x {} scores in L1 from the first product to the second.",
          s.strip_rows, s.strip_rows, s.block_kv));
      out.push_back(micro_kernel_text(s));
      break;
    case CpuTemplate::decode:
      out.push_back(
          fmt::format("Up to {} query rows that share a K/V head are answered together, so that K and V are read once.",
                      s.block_q));
      out.push_back(
          s.split_kv > 0
              ? fmt::format("The keys are split into pieces of {}, one work item each, merged at the end.", s.split_kv)
              : "The keys are not split.");
      out.push_back(fmt::format("A piece is walked {} keys at a time. ", s.block_kv) + micro_kernel_text(s));
      break;
    case CpuTemplate::backward:
      out.push_back(fmt::format("A work item owns {} keys, their dK and dV, and walks the queries {} rows at a time.",
                                s.chunk_kv, s.block_q));
      out.push_back(fmt::format("Scores are recomputed in tiles of {} x {}, strips of {} rows.", s.block_q, s.block_kv,
                                s.strip_rows));
      out.push_back(micro_kernel_text(s));
      break;
    case CpuTemplate::matmul:
      out.push_back(fmt::format("Blocks of {} rows by {} columns are summed {} deep at a time.", s.block_m, s.block_n,
                                s.block_k));
      out.push_back(micro_kernel_text(s));
      break;
    case CpuTemplate::matvec:
      out.push_back(
          fmt::format("Up to {} rows at once; the matrix is read once, in place, {} columns by {} deep per work item.",
                      s.block_m, s.block_n, s.block_k));
      break;
    case CpuTemplate::amx_prefill:
      out.push_back(fmt::format("A work item takes {} query rows of one head and walks packed keys {} at a time.",
                                s.block_q, s.block_kv));
      out.push_back("Sums live in 2 x 2 tiles of 16 x 16, transposed, so that a row's maximum and sum are vertical.");
      out.push_back(fmt::format("Scores take {} bf16 product{} per multiplication of operands, outputs {}.", s.products,
                                s.products == 1 ? "" : "s", s.value_products));
      if (s.rescale_log2 > 0)
        out.push_back(
            fmt::format("Sums are rescaled when a row's maximum has grown by more than 2^{}.", s.rescale_log2));
      break;
    case CpuTemplate::amx_backward:
      out.push_back(
          fmt::format("A work item takes {} keys of one head and walks queries {} at a time, {} keys at a time.",
                      s.chunk_kv, s.block_q, s.block_kv));
      out.push_back(
          "Five products of bf16 on 2 x 2 tiles of 16 x 16; P and dS are written once per use, untransposed.");
      if (s.value_products > 1)
        out.push_back(fmt::format("Scores take {} of them per multiplication of operands, gradients {}.", s.products,
                                  s.value_products));
      break;
    case CpuTemplate::amx_decode:
      out.push_back(
          fmt::format("Up to {} query rows that share a K/V head are answered together; K and V are read once, in "
                      "place, into tiles.",
                      s.block_q));
      if (s.split_kv > 0)
        out.push_back(
            fmt::format("The keys are split into pieces of {}, one work item each, merged at the end.", s.split_kv));
      break;
    case CpuTemplate::loop: out.push_back("One loop nest over memory."); break;
    case CpuTemplate::generic:
      out.push_back(fmt::format("Op by op over tiles of {} query rows by {} keys.", s.block_q, s.block_kv));
      break;
    default: break;  // the integers beside these sentences speak for themselves
  }
  return out;
}

}  // namespace tilewright::cli
