#include "bench/rows.h"

#include <array>

#include "bench/row_context.h"

namespace tilewright::bench {
namespace {

constexpr std::array kVerdicts = {Verdict::measured, Verdict::met, Verdict::missed, Verdict::void_row,
                                  Verdict::skipped};

}  // namespace

std::string_view to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::measured: return "measured";
    case Verdict::met: return "met";
    case Verdict::missed: return "missed";
    case Verdict::void_row: return "void";
    case Verdict::skipped: break;
  }
  return "skipped";
}

std::optional<Verdict> parse_verdict(std::string_view text) {
  for (const Verdict verdict : kVerdicts)
    if (to_string(verdict) == text) return verdict;
  return std::nullopt;
}

Verdict Row::verdict() const {
  if (!skipped.empty()) return Verdict::skipped;
  if (!fall_back.empty()) return Verdict::void_row;
  if (!bar) return Verdict::measured;
  // Written so that a value that is no number misses.
  const bool reached = bar->at_least ? value.median >= bar->target : value.median <= bar->target;
  return reached ? Verdict::met : Verdict::missed;
}

Result<Done> measure_rows(const Engine& engine, const RowOptions& options,
                          const std::function<void(const Row&)>& sink) {
  RowContext context(engine, options, sink);
  for (const auto rows : {limit_rows, speed_rows, thread_rows, backward_rows, mask_rows, modification_rows,
                          rotation_rows, decode_rows, matmul_rows, compile_rows, memory_rows})
    if (auto ok = rows(context); !ok) return ok;
  return Done{};
}

}  // namespace tilewright::bench
