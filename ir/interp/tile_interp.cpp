// A TileProgram executed op by op over tiles of the size asked for.
#include <cmath>
#include <numbers>

#include "ir/interp/attention_data.h"

namespace tilewright {
namespace {

using interp::AttentionData;

struct Tile {
  int64_t columns = 1;
  std::vector<long double> values;
};

struct Block {
  int64_t q_lo, q_hi;    ///< half-open
  int64_t kv_lo, kv_hi;  ///< half-open; empty outside of steps
};

class Machine {
 public:
  Machine(const TileProgram& program, AttentionData& data) : program_(program), data_(data) {}

  void query_block(int64_t q_lo, int64_t q_hi, int64_t block_kv, int64_t splits) {
    const KvRange& range = program_.spec.kv_range;
    int64_t begin = 0, end = data_.kv_len;
    if (!range.begin.empty()) begin = std::max<int64_t>(0, data_.block_value(range.begin, q_lo, q_hi - 1, 0, 0));
    if (!range.end.empty()) end = std::min(data_.kv_len, data_.block_value(range.end, q_lo, q_hi - 1, 0, 0));
    const int64_t blocks = std::max<int64_t>(0, (end - begin + block_kv - 1) / block_kv);
    const int64_t per_split = (blocks + splits - 1) / splits;
    std::vector<Tile> whole;
    for (int64_t split = 0; split < splits; ++split) {
      std::vector<Tile> state(program_.values.size());
      Block block{q_lo, q_hi, 0, 0};
      run(program_.init, state, block);
      for (int64_t i = split * per_split; i < std::min(blocks, (split + 1) * per_split); ++i) {
        block.kv_lo = begin + i * block_kv;
        block.kv_hi = std::min(end, block.kv_lo + block_kv);
        if (test(range.skip, block)) continue;
        run(program_.step, state, block);
      }
      if (split == 0) {
        whole = std::move(state);
        continue;
      }
      // Both states side by side: ids from values.size() on are the right one.
      std::move(state.begin(), state.end(), std::back_inserter(whole));
      run(program_.merge, whole, {q_lo, q_hi, 0, 0});
      whole.resize(program_.values.size());
    }
    run(program_.finish, whole, {q_lo, q_hi, 0, 0});
  }

 private:
  bool test(const Expr& expr, const Block& block) const {
    return !expr.empty() && data_.block_value(expr, block.q_lo, block.q_hi - 1, block.kv_lo, block.kv_hi - 1) != 0;
  }

  int64_t columns_of(int id, const Block& block) const {
    switch (program_.values[static_cast<size_t>(id) % program_.values.size()].shape) {
      case TileShape::tile_qk: return block.kv_hi - block.kv_lo;
      case TileShape::tile_qv: return program_.spec.value_dim;
      case TileShape::column: break;
    }
    return 1;
  }

  void run(const std::vector<TileInst>& code, std::vector<Tile>& tiles, const Block& block) {
    for (const TileInst& inst : code) execute(inst, tiles, block);
  }

  /// dst[q, c] = f(q, c).
  template <class F>
  void define(const TileInst& inst, std::vector<Tile>& tiles, const Block& block, F f) {
    Tile out;
    out.columns = columns_of(inst.dst, block);
    for (int64_t q = 0; q < block.q_hi - block.q_lo; ++q)
      for (int64_t c = 0; c < out.columns; ++c) out.values.push_back(f(q, c));
    tiles[static_cast<size_t>(inst.dst)] = std::move(out);
  }

  void execute(const TileInst& inst, std::vector<Tile>& tiles, const Block& block) {
    // Columns broadcast along rows.
    const auto get = [&](int id, int64_t q, int64_t c) {
      const Tile& tile = tiles[static_cast<size_t>(id)];
      return tile.values[static_cast<size_t>(q * tile.columns + (tile.columns == 1 ? 0 : c))];
    };
    const auto a = [&](int64_t q, int64_t c) { return get(inst.a, q, c); };
    const auto b = [&](int64_t q, int64_t c) { return get(inst.b, q, c); };
    const auto fold = [&](auto join, long double start) {
      const int64_t columns = tiles[static_cast<size_t>(inst.a)].columns;
      define(inst, tiles, block, [&](int64_t q, int64_t) {
        long double sum = start;
        for (int64_t c = 0; c < columns; ++c) sum = join(sum, a(q, c));
        return sum;
      });
    };
    switch (inst.op) {
      case TileOp::fill:
        return define(inst, tiles, block, [&](int64_t, int64_t) -> long double { return inst.literal; });
      case TileOp::dot: return dot(inst, tiles, block);
      case TileOp::map_score:
        return define(inst, tiles, block, [&](int64_t q, int64_t c) {
          return data_.score(program_.score, block.q_lo + q, block.kv_lo + c, a(q, c)) * program_.score_scale;
        });
      case TileOp::mask: {
        const bool full = test(program_.spec.kv_range.full, block);
        return define(inst, tiles, block, [&](int64_t q, int64_t c) -> long double {
          return full || data_.keep(block.q_lo + q, block.kv_lo + c) ? a(q, c) : inst.literal;
        });
      }
      case TileOp::row_max:  // a NaN is ignored here and kept by exp2_sub
        return fold([](long double x, long double y) { return std::fmax(x, y); }, -HUGE_VALL);
      case TileOp::row_sum: return fold([](long double x, long double y) { return x + y; }, 0);
      case TileOp::max:
        return define(inst, tiles, block, [&](int64_t q, int64_t c) { return std::fmax(a(q, c), b(q, c)); });
      case TileOp::finite_or_zero:
        return define(inst, tiles, block, [&](int64_t q, int64_t c) { return a(q, c) == -HUGE_VALL ? 0 : a(q, c); });
      case TileOp::exp2_sub:
        return define(inst, tiles, block, [&](int64_t q, int64_t c) { return std::exp2(a(q, c) - b(q, c)); });
      case TileOp::mul: return define(inst, tiles, block, [&](int64_t q, int64_t c) { return a(q, c) * b(q, c); });
      case TileOp::map_weight:
        return define(inst, tiles, block, [&](int64_t q, int64_t c) {
          return a(q, c) * data_.weight_factor(block.q_lo + q, block.kv_lo + c);
        });
      case TileOp::add: return define(inst, tiles, block, [&](int64_t q, int64_t c) { return a(q, c) + b(q, c); });
      case TileOp::dot_value: return dot_value(inst, tiles, block);
      case TileOp::load_sink:
        return define(inst, tiles, block, [&](int64_t q, int64_t) {
          return data_.sink(block.q_lo + q) * std::numbers::log2e_v<long double>;
        });
      case TileOp::div_or_zero:
        return define(inst, tiles, block, [&](int64_t q, int64_t c) { return b(q, c) == 0 ? 0 : a(q, c) / b(q, c); });
      case TileOp::log2_add:
        return define(inst, tiles, block, [&](int64_t q, int64_t c) {
          return b(q, c) == 0 ? -HUGE_VALL : (a(q, c) + std::log2(b(q, c))) * std::numbers::ln2_v<long double>;
        });
      case TileOp::store_output:
      case TileOp::store_lse: return store(inst, tiles, block);
    }
  }

  void dot(const TileInst& inst, std::vector<Tile>& tiles, const Block& block) {
    Tile out;
    out.columns = block.kv_hi - block.kv_lo;
    for (int64_t q = block.q_lo; q < block.q_hi; ++q) {
      const std::vector<long double> row = data_.dots(q, block.kv_lo, block.kv_hi);
      out.values.insert(out.values.end(), row.begin(), row.end());
    }
    tiles[static_cast<size_t>(inst.dst)] = std::move(out);
  }

  void dot_value(const TileInst& inst, std::vector<Tile>& tiles, const Block& block) {
    const Tile weights = tiles[static_cast<size_t>(inst.b)], before = tiles[static_cast<size_t>(inst.a)];
    define(inst, tiles, block, [&](int64_t q, int64_t column) {
      long double sum = before.values[static_cast<size_t>(q * before.columns + column)];
      for (int64_t kv = 0; kv < block.kv_hi - block.kv_lo; ++kv) {
        const long double weight = weights.values[static_cast<size_t>(q * weights.columns + kv)];
        if (weight != 0) sum += weight * data_.value(block.kv_lo + kv, column);
      }
      return sum;
    });
  }

  void store(const TileInst& inst, const std::vector<Tile>& tiles, const Block& block) {
    const Tile& tile = tiles[static_cast<size_t>(inst.a)];
    for (int64_t q = 0; q < block.q_hi - block.q_lo; ++q)
      for (int64_t c = 0; c < tile.columns; ++c) {
        const long double value = tile.values[static_cast<size_t>(q * tile.columns + c)];
        if (inst.op == TileOp::store_lse)
          data_.store_lse(block.q_lo + q, value);
        else
          data_.store_output(block.q_lo + q, c, value);
      }
  }

  const TileProgram& program_;
  AttentionData& data_;
};

}  // namespace

Result<std::vector<OracleTensor>> interpret(const TileProgram& program, const DimBindings& dims,
                                            std::span<const TensorView> tensors, int64_t block_q, int64_t block_kv,
                                            int64_t splits) {
  TW_CHECK(block_q > 0 && block_kv > 0 && splits > 0);
  auto data = AttentionData::create(program.spec, dims, tensors);
  if (!data) return data.error();
  Machine machine(program, *data);
  for (int64_t b = 0; b < data->batches; ++b)
    for (int64_t h = 0; h < data->heads; ++h) {
      data->enter_head(b, h);
      for (int64_t q = 0; q < data->q_len; q += block_q)
        machine.query_block(q, std::min(data->q_len, q + block_q), block_kv, splits);
    }
  return std::move(data->outputs);
}

}  // namespace tilewright
