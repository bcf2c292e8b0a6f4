#include "ir/dtype.h"

#include <array>

namespace tilewright {
namespace {
struct Row {
  DType type;
  std::string_view name;
  int64_t size;
};
constexpr std::array<Row, 8> kRows{{{DType::f64, "f64", 8},
                                    {DType::f32, "f32", 4},
                                    {DType::f16, "f16", 2},
                                    {DType::bf16, "bf16", 2},
                                    {DType::i64, "i64", 8},
                                    {DType::i32, "i32", 4},
                                    {DType::i8, "i8", 1},
                                    {DType::boolean, "bool", 1}}};
}  // namespace

std::string_view to_string(DType type) { return kRows[static_cast<size_t>(type)].name; }
int64_t size_of(DType type) { return kRows[static_cast<size_t>(type)].size; }

std::optional<DType> parse_dtype(std::string_view text) {
  for (const Row& row : kRows)
    if (row.name == text) return row.type;
  return std::nullopt;
}

}  // namespace tilewright
