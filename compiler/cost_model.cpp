#include "compiler/cost_model.h"

#include <algorithm>
#include <cmath>

#include "compiler/contract_axes.h"
#include "compiler/plan_rules.h"
#include "compiler/schedule_bounds.h"

namespace tilewright {
namespace {

// Bytes per cycle of one core; see docs/performance-log.md. L3 and memory are counted as one: a model that ranks
// schedules of one step need not know where its tensors lie.
constexpr double kL1Bytes = 100, kL2Bytes = 48, kFarBytes = 7;
constexpr double kSoftmaxCycles = 9;  // per vector of scores: load, scale, mask, max, exp2, sum, store
constexpr int64_t kUnknownDim = 1024;

double up(int64_t value, int64_t unit) { return static_cast<double>(round_up(value, unit)); }

int64_t known(const Dim& dim, const DimBindings& dims) {
  int64_t sum = dim.constant();
  for (const auto& [name, coefficient] : dim.terms()) {
    const auto found = dims.find(name);
    sum += coefficient * (found == dims.end() ? kUnknownDim : found->second);
  }
  return std::max<int64_t>(sum, 1);
}

int64_t extent(const std::vector<Dim>& list, const DimBindings& dims) {
  int64_t all = 1;
  for (const Dim& dim : list) all *= known(dim, dims);
  return all;
}

/// The share of the keys that a block of queries visits, by the shape of the mask: about half where a border moves
/// with q.
double visited_share(const ScoreSpace& space) {
  const auto moves = [](const Expr& expr) {
    const auto depends = dependencies(expr);
    return !depends.empty() &&
           depends[static_cast<size_t>(raw(expr.root()))] & (bit(Axis::q) | bit(Axis::q_lo) | bit(Axis::q_hi));
  };
  double share = 1;
  for (const Expr* border : {&space.kv_range.begin, &space.kv_range.end})
    if (!border->empty() && moves(*border)) share *= 0.5;
  return share;
}

class Model {
 public:
  Model(const CpuSchedule& s, const ScheduledStep& step, const CpuTarget& target, const DimBindings& dims, int workers)
      : s_(s), step_(step), target_(target), dims_(dims), workers_(std::max(workers, 1)), shape_(shape_of(step)) {}

  CostEstimate estimate() {
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
    return std::move(out_);
  }

 private:
  template <class... Args>
  void say(fmt::format_string<Args...> sentence, Args&&... args) {
    out_.reasons.push_back(fmt::format(sentence, std::forward<Args>(args)...));
  }

  /// Cycles of one k step of an mr×nv tile: two FMAs and two loads a cycle, four issue slots of which broadcasts of A
  /// take one each, and a loop overhead that unrolling shares.
  double step_cycles(int64_t mr, int64_t nv) const {
    const auto fmas = static_cast<double>(mr * nv), loads = static_cast<double>(mr + nv);
    const double overhead = 2.0 / static_cast<double>(s_.k_unroll);
    return std::max({fmas / 2, loads / 2, (fmas + loads + overhead) / 4, fmas < 10 ? 4.0 : 0.0});
  }
  /// Cycles of a product of padded rows, vectors and depth, and of its tiles' trips between registers and memory.
  double product_cycles(double rows, double vectors, double depth) const {
    const double tiles = std::ceil(rows / static_cast<double>(s_.mr)) * std::ceil(vectors / static_cast<double>(s_.nv));
    return tiles * (depth * step_cycles(s_.mr, s_.nv) + static_cast<double>(s_.mr * s_.nv) + 12);
  }

  /// Whole rounds of `items` over the workers, relative to an even share; dynamic claims even out unequal items.
  double imbalance(double items) {
    const double rounds = std::ceil(items / workers_);
    const double factor = rounds * workers_ / std::max(items, 1.0);
    say("{:.0f} work items over {} workers: {:.2f} times an even share", items, workers_, factor);
    return factor;
  }
  void finish(double arithmetic, double traffic, double factor) {
    say("{:.3g} cycles of arithmetic, {:.3g} of waiting for memory", arithmetic, traffic);
    // Loads run ahead of the arithmetic, but not all of them.
    out_.cycles = (std::max(arithmetic, traffic) + 0.3 * std::min(arithmetic, traffic)) / workers_ * factor;
  }
  double spill(int64_t bytes, int64_t limit, std::string_view what) {
    const double over = static_cast<double>(bytes) / static_cast<double>(limit);
    say("{} take {} KB of {} KB", what, bytes >> 10, limit >> 10);
    return over <= 1 ? 0 : over - 1;
  }

  void prefill() {
    const AttentionSpec& spec = std::get<const TileProgram*>(step_)->spec;
    const int64_t q_len = known(spec.q_len, dims_), kv_len = known(spec.kv_len, dims_);
    const int64_t heads = extent(spec.batch, dims_) * extent(spec.heads, dims_);
    const double share = visited_share(spec), lanes = static_cast<double>(s_.lanes);
    const auto element = static_cast<double>(shape_.element);
    const double dqk = up(shape_.score_columns, 4);
    const double value_vectors = std::ceil(static_cast<double>(shape_.value_columns) / lanes);
    // Narrow outputs have a tile of their own (tile_for_columns).
    const double dv = (value_vectors <= 2 ? value_vectors : up(static_cast<int64_t>(value_vectors), s_.nv)) * lanes;
    const int64_t block_q = std::min(s_.block_q, static_cast<int64_t>(up(q_len, s_.strip_rows)));
    const double q_blocks = std::ceil(static_cast<double>(q_len) / static_cast<double>(block_q));
    const double items = static_cast<double>(heads) * q_blocks;

    // A border that moves with q costs half a block of keys per strip, and a block of queries as well.
    const double ragged = share < 1 ? static_cast<double>(s_.nr() + s_.strip_rows) / 2 : 0;
    const double keys = std::min(share * static_cast<double>(kv_len) + ragged, up(kv_len, s_.nr()));
    const double rows = up(q_len, s_.mr) * static_cast<double>(heads);
    const double blocks = std::ceil(keys / static_cast<double>(s_.block_kv));
    const double key_vectors = keys / lanes;
    double arithmetic = product_cycles(rows, key_vectors, dqk) +
                        blocks * product_cycles(rows, dv / lanes, keys / std::max(blocks, 1.0)) +
                        rows * key_vectors * kSoftmaxCycles + rows * blocks * 25;
    say("{:.0f}x{:.0f} padded head dims, {:.0f} keys per row, {}x{} tiles at {:.2f} of the FMA rate", dqk, dv, keys,
        s_.mr, s_.nv, static_cast<double>(s_.mr * s_.nv) / 2 / step_cycles(s_.mr, s_.nv));
    const int64_t panel = s_.nr() * static_cast<int64_t>(dqk) * shape_.element;
    const double l1 = spill(inner_tile(s_, step_) + panel / 2, target_.l1_bytes, "a strip's scores and a panel of K");
    const double l2 = spill(working_set(s_, step_), target_.l2_bytes * 3 / 4, "Q, O, K and V of a block");

    // Per strip, K, V come from L2; per item, from afar, unless few heads' K and V stay in L2 altogether.
    const double kv_bytes = keys * (dqk + dv) * element;
    const double strips = std::ceil(static_cast<double>(block_q) / static_cast<double>(s_.strip_rows));
    double traffic = items * kv_bytes * (strips / kL2Bytes + (strips * l2 + 1) / kFarBytes) + arithmetic * 0.5 * l1;
    const double group = static_cast<double>(spec.head_group);
    const double pack = static_cast<double>(heads) / group * static_cast<double>(kv_len) * (dqk + dv) / lanes * 3;
    if (s_.share_packed) {
      arithmetic += pack;
      traffic += 2 * pack * lanes * element / 3 / kFarBytes;
    } else {
      arithmetic += pack * group * q_blocks * share;
      say("K and V are packed {:.0f} times", group * q_blocks);
    }
    finish(arithmetic, traffic, imbalance(items));
  }

  /// 16×16×32 multiply-adds a tile product, 16 cycles each; a 2×2 block of them is fed by 4 loads, from L2 when its
  /// operands have outgrown L1.
  void amx_prefill() {
    const AttentionSpec& spec = std::get<const TileProgram*>(step_)->spec;
    const int64_t q_len = known(spec.q_len, dims_), kv_len = known(spec.kv_len, dims_);
    const auto heads = static_cast<double>(extent(spec.batch, dims_) * extent(spec.heads, dims_));
    const double share = visited_share(spec);
    const double ragged = share < 1 ? static_cast<double>(s_.block_kv + s_.block_q) / 2 : 0;
    const double keys = std::min(share * static_cast<double>(kv_len) + ragged, up(kv_len, 32));
    const double rows = up(q_len, 32) * heads;
    const double scores = rows * keys / 256, depth = up(shape_.score_columns, 32) / 32;
    const double outputs = rows * up(shape_.value_columns, 16) / 256 * keys / 32;
    const double products =
        scores * depth * static_cast<double>(s_.products) + outputs * static_cast<double>(s_.value_products);
    const double blocks = keys / static_cast<double>(s_.block_kv);
    const double rescale = s_.rescale_log2 > 0 ? 0.1 : 1;
    const double arithmetic = products * 16 + rows * keys / 16 * kSoftmaxCycles +
                              rows * blocks * up(shape_.value_columns, 16) / 16 * 2 * rescale;
    const double items = heads * std::ceil(static_cast<double>(q_len) / static_cast<double>(s_.block_q));
    const double l2 = spill(working_set(s_, step_), target_.l2_bytes * 3 / 4, "Q, O, K and V of a block");
    const double columns = static_cast<double>(shape_.score_columns + shape_.value_columns);
    const double traffic = products * 19 + items * keys * columns * 2 * (1 + l2) / kFarBytes;
    finish(arithmetic, traffic, imbalance(items));
  }

  void decode() {
    const AttentionSpec& spec = std::get<const TileProgram*>(step_)->spec;
    const int64_t kv_len = known(spec.kv_len, dims_);
    const double heads = static_cast<double>(extent(spec.batch, dims_) * extent(spec.heads, dims_) / spec.head_group);
    const double rows = static_cast<double>(known(spec.q_len, dims_) * spec.head_group);
    const double share = visited_share(spec);
    const double splits = std::ceil(static_cast<double>(kv_len) / static_cast<double>(s_.split_kv));
    const auto columns = static_cast<double>(shape_.score_columns + shape_.value_columns);
    const DotTerm& dot = spec.dots[0];
    const double key_bytes = static_cast<double>(dot.head_dim * size_of(operand_dtype(spec, dot.key, dot.key_row)) +
                                                 spec.value_dim * size_of(operand_dtype(spec, spec.value)));
    const double keys = static_cast<double>(kv_len) * share * heads, lanes = static_cast<double>(s_.lanes);
    const bool tiled = s_.mr >= 4 && rows >= 4;
    const double per_key = columns / lanes * (rows / 2 + (tiled ? rows / 4 : rows) / 2 + 1) + rows * 4 / lanes;
    // A split begins with loading Q and ends with a state that is written, read and merged; a block costs a round.
    const double per_split = rows * (columns / lanes * 8 + 60) + 400;
    const double blocks = std::ceil(static_cast<double>(s_.split_kv) / static_cast<double>(s_.block_kv));
    const double arithmetic = keys * per_key + heads * splits * (per_split + blocks * 150);
    say("{:.0f} splits of {} keys, {:.0f} rows share a KV head", splits, s_.split_kv, rows);
    finish(arithmetic, keys * key_bytes / kFarBytes, imbalance(heads * splits));
  }

  void backward() {
    const BackwardSpec& spec = *std::get<const BackwardSpec*>(step_);
    const int64_t q_len = known(spec.q_len, dims_), kv_len = known(spec.kv_len, dims_);
    const auto heads = static_cast<double>(extent(spec.batch, dims_) * extent(spec.heads, dims_));
    const double share = visited_share(spec), lanes = static_cast<double>(s_.lanes);
    const double width = up(shape_.score_columns, 4), vectors = std::ceil(width / lanes);
    const double ragged = share < 1 ? static_cast<double>(s_.block_kv + s_.block_q) / 2 : 0;
    const double rows = up(q_len, s_.mr) * heads;
    const double keys = std::min(share * static_cast<double>(kv_len) + ragged, up(kv_len, s_.nr()));
    const auto bq = static_cast<double>(s_.block_q), bkv = static_cast<double>(s_.block_kv);
    const double tiles = rows / bq * keys / bkv;
    const double per_tile = 2 * product_cycles(bq, bkv / lanes, width) + product_cycles(bq, vectors, bkv) +
                            2 * product_cycles(bkv, vectors, bq) + bq * bkv / lanes * 2 * kSoftmaxCycles + 300;
    const double chunks = std::ceil(static_cast<double>(kv_len) / static_cast<double>(s_.chunk_kv));
    const double l2 = spill(working_set(s_, step_), target_.l2_bytes * 3 / 4, "a chunk and a block of rows");
    // Each chunk reads Q and dO and adds to dQ, all from afar.
    const double traffic = rows * share * chunks * 4 * width * static_cast<double>(shape_.element) / kFarBytes;
    const double kv_heads = heads / static_cast<double>(spec.head_group);
    say("{:.0f} chunks read Q and dO and add to dQ", chunks);
    finish(tiles * per_tile * (1 + l2), traffic, imbalance(kv_heads * chunks));
  }

  /// As amx_prefill; sums of outputs are loaded and stored once per tile of scores.
  void amx_backward() {
    const BackwardSpec& spec = *std::get<const BackwardSpec*>(step_);
    const int64_t q_len = known(spec.q_len, dims_), kv_len = known(spec.kv_len, dims_);
    const auto heads = static_cast<double>(extent(spec.batch, dims_) * extent(spec.heads, dims_));
    const double share = visited_share(spec), depth = up(backward_width(spec), 32) / 32;
    const double ragged = share < 1 ? static_cast<double>(s_.block_kv + s_.block_q) / 2 : 0;
    const double rows = up(q_len, 32) * heads;
    const double keys = std::min(share * static_cast<double>(kv_len) + ragged, up(kv_len, 32));
    const double scores = rows * keys / 256;
    const double products = scores * depth * static_cast<double>(2 * s_.products + 3 * s_.value_products);
    const auto parts = static_cast<double>(bf16_parts(std::max(s_.products, s_.value_products)));
    const double sums =
        scores * depth * 2 * (4 * 16 / static_cast<double>(s_.block_q) + 2 * 16 / static_cast<double>(s_.block_kv));
    const double chunks = std::ceil(static_cast<double>(kv_len) / static_cast<double>(s_.chunk_kv));
    const double pack = rows * share * chunks * depth * 32 / 16 * 12 * parts;
    const double weights = rows * keys / 16 * 4 * (parts - 1);  // taking P and dS apart
    const double l2 = spill(working_set(s_, step_), target_.l2_bytes * 3 / 4, "a chunk and a block of rows");
    say("{:.0f} chunks read Q and dO and add to dQ", chunks);
    finish((products * 16 + sums * 20 + rows * keys / 16 * 2 * kSoftmaxCycles + weights + pack) * (1 + l2),
           products * 19, imbalance(heads / static_cast<double>(spec.head_group) * chunks));
  }

  void matmul() {
    const LoopStep& step = *std::get<const LoopStep*>(step_);
    const ContractAxes axes = contract_axes(step);
    const auto size_of_axis = [&](int axis) { return known(step.extents[static_cast<size_t>(axis)], dims_); };
    int64_t outer = 1, m = 1;
    for (int axis : axes.outer) outer *= size_of_axis(axis);
    for (int axis : axes.rows) m *= size_of_axis(axis);
    const int64_t n = size_of_axis(axes.column), k = size_of_axis(axes.depth);
    const double lanes = static_cast<double>(s_.lanes), bytes = static_cast<double>(shape_.element);
    const double row_blocks = std::ceil(static_cast<double>(m) / static_cast<double>(s_.block_m));
    const double column_blocks = std::ceil(static_cast<double>(n) / static_cast<double>(s_.block_n));
    const double k_blocks = std::ceil(static_cast<double>(k) / static_cast<double>(s_.block_k));
    const double rows = up(m, s_.mr), vectors = up(n, s_.nr()) / lanes, depth = static_cast<double>(k) / k_blocks;
    const double products = k_blocks * product_cycles(rows, vectors, depth);
    // A is packed again for each block of columns, B for each block of rows.
    const double pack = (column_blocks * static_cast<double>(m) + row_blocks * static_cast<double>(n)) *
                        static_cast<double>(k) / lanes * 3;
    say("A is packed {:.0f} times, B {:.0f} times, C is passed over {:.0f} times", column_blocks, row_blocks, k_blocks);
    const double l1 = spill(inner_tile(s_, step_), target_.l1_bytes * 3 / 4, "a panel of B");
    const double l2 = spill(working_set(s_, step_), target_.l2_bytes * 3 / 4, "A and C of a block");
    const double traffic = row_blocks * static_cast<double>(n * k) * bytes / kFarBytes * (1 + l2) + products * 0.5 * l1;
    finish(static_cast<double>(outer) * (products + pack), static_cast<double>(outer) * traffic,
           imbalance(static_cast<double>(outer) * row_blocks * column_blocks));
  }

  void matvec() {
    const LoopStep& step = *std::get<const LoopStep*>(step_);
    const ContractAxes axes = contract_axes(step);
    const auto size_of_axis = [&](int axis) { return known(step.extents[static_cast<size_t>(axis)], dims_); };
    int64_t outer = 1;
    for (int axis : axes.outer) outer *= size_of_axis(axis);
    const int64_t n = size_of_axis(axes.column), k = size_of_axis(axes.depth);
    const double items =
        static_cast<double>(outer) * std::ceil(static_cast<double>(n) / static_cast<double>(s_.block_n));
    const double bytes = static_cast<double>(outer * n * k * shape_.element);
    // A row's piece of an item is a page or less of its own: short pieces make more of them.
    const double pieces = bytes / static_cast<double>(std::min(n, s_.block_n) * shape_.element);
    finish(items * 2000 + pieces * 20, bytes / kFarBytes, imbalance(items));
  }

  void generic() {
    const auto* backward = std::get_if<const BackwardSpec*>(&step_);
    const ScoreSpace& space = backward ? static_cast<const ScoreSpace&>(**backward)
                                       : static_cast<const ScoreSpace&>(std::get<const TileProgram*>(step_)->spec);
    const auto q_len = static_cast<double>(known(space.q_len, dims_));
    const auto heads = static_cast<double>(extent(space.batch, dims_) * extent(space.heads, dims_));
    const double scores = q_len * static_cast<double>(known(space.kv_len, dims_)) * heads;
    const double tile = static_cast<double>(s_.block_q * s_.block_kv);
    const auto columns = static_cast<double>(shape_.score_columns + shape_.value_columns);
    const double pack = scores / static_cast<double>(s_.block_q) * columns / static_cast<double>(s_.lanes) * 4;
    finish(scores * columns / static_cast<double>(s_.lanes) * 2 + pack + scores / tile * 2000, 0,
           imbalance(heads * std::ceil(q_len / static_cast<double>(s_.block_q))));
  }

  const CpuSchedule& s_;
  const ScheduledStep& step_;
  const CpuTarget& target_;
  const DimBindings& dims_;
  int workers_;
  StepShape shape_;
  CostEstimate out_;
};

}  // namespace

CostEstimate estimate_cost(const CpuSchedule& schedule, const ScheduledStep& step, const CpuTarget& target,
                           const DimBindings& dims, int workers) {
  return Model(schedule, step, target, dims, workers).estimate();
}

}  // namespace tilewright
