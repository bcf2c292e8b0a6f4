// The generic backward template's kernels: one for all row products, one for all column products, one for each captured
// sum, as calls of device/generic_backward.cuh.
#include <algorithm>

#include "codegen/cuda/access_writer.h"
#include "codegen/cuda/space_writer.h"
#include "codegen/cuda/templates.h"
#include "compiler/cuda_backward_layout.h"
#include "compiler/passes.h"
#include "ir/result.h"

namespace tilewright::cuda {
namespace {

constexpr int64_t kElementThreads = 128;

class BackwardWriter : SpaceWriter {
 public:
  BackwardWriter(DeviceNames& names, const BackwardSpec& spec, const CudaSchedule& schedule, std::string prefix)
      : SpaceWriter(names, spec), spec_(spec), schedule_(schedule), prefix_(std::move(prefix)) {}

  /// Text and phases of everything after Args.
  std::string run() {
    space();
    const std::vector<BackwardSums> kernels = backward_kernels(spec_);
    weights(kernels);
    for (const BackwardSums& sums : kernels)
      if (sums.kind == BackwardSums::captured) captured(sums.sum);
    for (const BackwardSums& sums : kernels) {
      sums_ = sums;
      tiles_ = backward_tiles(spec_, schedule_, sums);
      switch (sums.kind) {
        case BackwardSums::rows: rows_kernel(); break;
        case BackwardSums::columns: columns_kernel(); break;
        case BackwardSums::captured: captured_kernel(); break;
      }
    }
    for (CudaPhase& phase : last_) phases_.push_back(std::move(phase));
    return text_;
  }

  std::vector<CudaPhase> phases() { return std::move(phases_); }
  Expr workspace_bytes() const {
    Expr bytes = zero_bytes();
    for (const CapturedSum& sum : spec_.captured) {
      if (captured_axes(spec_, sum).direct) continue;
      const int64_t copies = captured_axes(spec_, sum).chunks;
      const ExprId size = bytes.constant_int(copies * size_of(spec_.accumulate), DType::i64);
      const ExprId own = bytes.op(Op::mul, DType::i64, {bytes.import(elements(sum)), size});
      bytes.set_root(bytes.op(Op::add, DType::i64, {bytes.root(), own}));
    }
    return bytes;
  }

 private:
  const TensorType& type_of(int tensor) const { return spec_.tensors[static_cast<size_t>(tensor)].type; }
  Expr elements(const CapturedSum& sum) const {
    Expr count;
    ExprId product = count.constant_int(1, DType::i64);
    for (const Dim& dim : type_of(sum.tensor).shape) product = count.op(Op::mul, DType::i64, {product, count.dim(dim)});
    count.set_root(product);
    return count;
  }

  template <class... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    const std::string body = fmt::format(format, std::forward<Args>(args)...);
    text_ += body.empty() ? "\n" : indent_ + body + "\n";
  }

  void space() {
    text_ += "struct Space {\n";
    type(spec_.accumulate, "Acc");
    space_constants();
    sizes();
    masks();
    ranges();
    text_ += "};\ntypedef Space::Acc Acc;\n\n";
    const auto term = [&](const DotTerm& dot, std::string_view name) {
      operand(fmt::format("Operand_q_{}", name), dot.query, dot.head_dim, false);
      operand(fmt::format("Operand_k_{}", name), dot.key, dot.head_dim, true);
    };
    for (size_t i = 0; i < spec_.dots.size(); ++i) term(spec_.dots[i], fmt::format("{}", i));
    if (spec_.output_gradient) term(*spec_.output_gradient, "t");
  }

  void operand(std::string_view name, const Access& access, int64_t width, bool keys) {
    const AxisNames axes{{Axis::b, "b"}, {Axis::h, "h"}, {keys ? Axis::kv : Axis::q, "row"}};
    text_ += fmt::format("struct {} {{\n", name);
    constant("kColumns", width);
    flag("kKeys", keys);
    function(fmt::format("const {}*", storage_type(dtype_of(access))), "address", ", i32 b, i32 h, i32 row",
             write_row_address(names_, axes, access));
    function("Acc", "element", ", i32 b, i32 h, i32 row, i32 d",
             returning(fmt::format("Acc(load_element(address(args, b, h, row) + d * ({})))",
                                   write_access_stride(names_, access, Axis::d))));
    text_ += "};\n";
  }

  std::string kind_name() const {
    switch (sums_.kind) {
      case BackwardSums::rows: return "rows";
      case BackwardSums::columns: return "columns";
      case BackwardSums::captured: break;
    }
    return fmt::format("captured_{}", sums_.sum);
  }

  /// One struct for each weight, whichever kernels use it.
  void weights(const std::vector<BackwardSums>& kernels) {
    const Term::Kind kind = spec_.accumulate == DType::f64 ? Term::f64 : Term::f32;
    for (const BackwardSums& sums : kernels)
      for (const ExprId root : weight_roots(spec_, sums)) {
        if (std::find(weights_.begin(), weights_.end(), root) != weights_.end()) continue;
        const WrittenRoots written = write_roots(names_, kScoreAxes, spec_.weights, {root});
        text_ += fmt::format("struct Weight_{} {{\n", weights_.size());
        function("Acc", "value", ", Acc s, Acc t" + kScoreAxes.parameters(),
                 written.lines + returning(converted(written.roots[0], kind).text));
        text_ += "};\n";
        weights_.push_back(root);
      }
  }

  void outputs() {
    const auto& own = products(spec_, sums_);
    const bool rows = sums_.kind == BackwardSums::rows;
    for (size_t i = 0; i < own.size(); ++i) {
      if (const std::string tile = operand_tile(spec_, sums_, i); tile.starts_with('x'))
        operand(fmt::format("Operand_{}_{}", kind_name(), tile), own[i].operand, own[i].width, rows);
      const AxisNames axes{{Axis::b, "b"}, {Axis::h, "h"}, {rows ? Axis::q : Axis::kv, "row"}};
      text_ += fmt::format("struct Output_{}_{} {{\n", kind_name(), i);
      function(fmt::format("{}*", storage_type(dtype_of(own[i].output))), "address", ", i32 b, i32 h, i32 row",
               write_row_address(names_, axes, own[i].output));
      function("i64", "stride", "", returning(write_access_stride(names_, own[i].output, Axis::d)));
      text_ += "};\n";
    }
  }

  void begin_kernel() {
    const std::string symbol = prefix_ + "_" + kind_name();
    CudaPhase phase;
    phase.symbol = symbol;
    phase.threads = 32 * schedule_.warps;
    phase.shared_bytes = tiles_.bytes;
    phases_.push_back(std::move(phase));
    outputs();
    text_ += fmt::format("\nTW_KERNEL({}, 1) {}(TW_PARAM Args args) {{\n", 32 * schedule_.warps, symbol);
    indent_ = "  ";
    line("const u32 base = shared_base();");
    for (const CudaTile& tile : tiles_.tiles)
      if (tile.name == "offsets")
        line("const u32 offsets = base + {};", tile.offset);
      else
        line("const Tile<Acc, {}, {}, {}> {}{{base + {}}};", tile.rows, tile.columns, 32 * schedule_.warps, tile.name,
             tile.offset);
  }
  void end_kernel() { text_ += "}\n\n"; }

  /// Tiles of one side of the scores.
  void load(bool keys, std::string_view where) {
    const char side = keys ? 'k' : 'q';
    for (const CudaTile& tile : tiles_.tiles)
      if (tile.name[0] == side && tile.name[1] == '_')
        line("load_rows<Space, Operand_{0}>(args, {1}, {0});", tile.name, where);
    const bool own = sums_.kind == BackwardSums::rows ? keys : !keys;
    for (const CudaTile& tile : tiles_.tiles)
      if (own && tile.name[0] == 'x')
        line("load_rows<Space, Operand_{1}_{0}>(args, {2}, {0});", tile.name, kind_name(), where);
  }

  void recompute() {
    for (size_t i = 0; i < spec_.dots.size(); ++i) line("tile_dot{1}(s, q_{0}, k_{0});", i, i ? "<true>" : "");
    const bool t = tiles_.has("t");
    if (t) line("tile_dot(t, q_t, k_t);");
    const std::vector<ExprId> roots = weight_roots(spec_, sums_);
    for (size_t i = 0; i < roots.size(); ++i) {
      const auto number = std::find(weights_.begin(), weights_.end(), roots[i]) - weights_.begin();
      line("tile_weight<Space, Weight_{}>(args, rows, kv, kv_end, w_{}, s, {});", number, i, t ? "t" : "s");
    }
  }

  void accumulate() {
    const auto& own = products(spec_, sums_);
    const std::vector<ExprId> roots = weight_roots(spec_, sums_);
    const bool rows = sums_.kind == BackwardSums::rows;
    for (size_t i = 0; i < own.size(); ++i) {
      const auto weight = std::find(roots.begin(), roots.end(), own[i].weight) - roots.begin();
      line("tile_dot_value{0}(out_{1}, out_{1}, w_{2}, {3});", rows ? "" : "<true>", i, weight,
           operand_tile(spec_, sums_, i));
    }
  }

  static constexpr std::string_view kSkip =
      "if (Space::skip(args, rows.b, rows.h, rows.q_begin, rows.q_end - 1, kv, kv_end - 1)) continue;";

  void rows_kernel() {
    begin_kernel();
    phases_.back().blocks = item_count(spec_, schedule_.block_q);
    line("const QueryRows rows = query_rows<Space, {}>(args);", schedule_.block_q);
    load(false, "rows.b, rows.h, rows.q_begin, rows.q_end");
    for (size_t i = 0; i < spec_.rows.size(); ++i) line("tile_fill(out_{}, 0);", i);
    line("i64 begin = 0, end = 0;");
    line("Space::kv_range(args, rows.b, rows.h, rows.q_begin, rows.q_end - 1, begin, end);");
    line("begin = int_max(begin, i64(0));");
    line("end = int_min(end, i64(Space::kv_len(args)));");
    line("TW_NO_UNROLL");
    line("for (i64 at = begin; at < end; at += {}) {{", schedule_.block_kv);
    indent_ = "    ";
    line("const i32 kv = i32(at), kv_end = i32(int_min(at + {}, end));", schedule_.block_kv);
    line("{}", kSkip);
    load(true, "rows.b, rows.h, kv, kv_end");
    recompute();
    accumulate();
    indent_ = "  ";
    line("}}");
    for (size_t i = 0; i < spec_.rows.size(); ++i)
      line("store_rows<Output_rows_{0}>(args, rows.b, rows.h, rows.q_begin, rows.q_end, out_{0});", i);
    end_kernel();
  }

  void columns_kernel() {
    begin_kernel();
    phases_.back().blocks = key_items();
    line("const KeyRows keys = key_rows<Space, {}>(args);", schedule_.block_kv);
    line("const i32 kv = keys.kv_begin, kv_end = keys.kv_end, q_len = Space::q_len(args);");
    const bool by_head = hides_keys_by_head(spec_);
    if (!by_head) load(true, "keys.b, keys.h, kv, kv_end");
    for (size_t i = 0; i < spec_.columns.size(); ++i) line("tile_fill(out_{}, 0);", i);
    line("TW_NO_UNROLL");
    line("for (i32 h = keys.h; h < keys.h + {}; ++h) {{", spec_.head_group);
    indent_ = "    ";
    if (by_head) load(true, "keys.b, h, kv, kv_end");
    line("TW_NO_UNROLL");
    line("for (i32 q = 0; q < q_len; q += {}) {{", schedule_.block_q);
    indent_ = "      ";
    line("const QueryRows rows = {{keys.b, h, q, int_min(q + {}, q_len)}};", schedule_.block_q);
    line("{}", kSkip);
    load(false, "rows.b, rows.h, rows.q_begin, rows.q_end");
    recompute();
    accumulate();
    indent_ = "    ";
    line("}}");
    indent_ = "  ";
    line("}}");
    for (size_t i = 0; i < spec_.columns.size(); ++i)
      line("store_rows<Output_columns_{0}>(args, keys.b, keys.h, kv, kv_end, out_{0});", i);
    end_kernel();
  }

  /// Blocks of keys of all (b, kv head).
  Expr key_items() const { return packed_blocks(spec_, schedule_.block_kv, 1); }

  /// struct Captured_i, and the phases before and after.
  void captured(int number) {
    const CapturedSum& sum = spec_.captured[static_cast<size_t>(number)];
    const TensorType& output = type_of(sum.tensor);
    const CapturedAxes axes = captured_axes(spec_, sum);
    const bool direct = axes.direct;
    text_ += fmt::format("struct Captured_{} {{\n", number);
    constant("kChunks", axes.chunks);
    const WrittenRoots written = write_roots(names_, kScoreAxes, spec_.weights, sum.index);
    std::string body = written.lines + "  i64 offset = 0;\n", count = "i64(1)", back;
    for (int axis = 0; axis < output.rank(); ++axis) {
      const std::string size = names_.shape(sum.tensor, axis);
      const std::string index = converted(written.roots[static_cast<size_t>(axis)], Term::i64).text;
      body += fmt::format("  offset = offset * {} + {};\n", size,
                          sum.in_bounds ? index : fmt::format("clamp_index({}, {})", index, size));
      count += " * " + size;
      back = fmt::format("  at += take_long_index(offset, {}) * {};\n", size, names_.stride(sum.tensor, axis)) + back;
    }
    function("i64", "offset", kScoreAxes.parameters(), body + "  return offset;\n");
    function(fmt::format("{}*", storage_type(output.dtype)), "element", ", i64 offset",
             fmt::format("  i64 at = 0;\n{}  return {} + at;\n", back, names_.base(sum.tensor)));
    function("i64", "elements", "", returning(count));
    if (!direct)
      function("Acc*", "sums", ", i32 chunk",
               returning(fmt::format("(Acc*)args.workspace{} + chunk * elements(args)", workspace_)));
    text_ += "};\n";
    if (!direct) workspace_ += fmt::format(" + {} * Captured_{}::elements(args)", axes.chunks, number);

    const auto elementwise = [&](std::string_view what, const std::string& call) {
      CudaPhase phase;
      phase.symbol = fmt::format("{}_{}_{}", prefix_, what, number);
      phase.threads = kElementThreads;
      phase.blocks = ceil_div(elements(sum), kElementThreads);
      text_ +=
          fmt::format("TW_KERNEL({}, 1) {}(TW_PARAM Args args) {{ {}(args); }}\n", kElementThreads, phase.symbol, call);
      return phase;
    };
    phases_.push_back(
        elementwise("clear", fmt::format("clear_captured<Captured_{}, {}, {}>", number, direct, kElementThreads)));
    if (!direct)
      last_.push_back(elementwise("finish", fmt::format("finish_captured<Captured_{}, {}>", number, kElementThreads)));
    text_ += "\n";
  }

  static Expr ceil_div(Expr count, int64_t size) {
    const ExprId padded = count.op(Op::add, DType::i64, {count.root(), count.constant_int(size - 1, DType::i64)});
    count.set_root(count.op(Op::div, DType::i64, {padded, count.constant_int(size, DType::i64)}));
    return count;
  }

  void captured_kernel() {
    const CapturedSum& sum = spec_.captured[static_cast<size_t>(sums_.sum)];
    const CapturedAxes axes = captured_axes(spec_, sum);
    begin_kernel();
    struct Loop {
      Axis axis;
      std::string name, extent;
      int64_t block;
      Expr count;
    };
    const auto product = [](const std::vector<Dim>& dims) {
      Expr expr;
      ExprId root = expr.constant_int(1, DType::i64);
      for (const Dim& dim : dims) root = expr.op(Op::mul, DType::i64, {root, expr.dim(dim)});
      expr.set_root(root);
      return expr;
    };
    const std::vector<Loop> loops = {{Axis::b, "b", "batch", 1, product(spec_.batch)},
                                     {Axis::h, "h", "heads", 1, product(spec_.heads)},
                                     {Axis::q, "q", "q_len", schedule_.block_q, product({spec_.q_len})},
                                     {Axis::kv, "kv", "kv_len", schedule_.block_kv, product({spec_.kv_len})}};
    // Items: blocks of the owned axes, kv fastest.
    Expr blocks = product({});
    line("i64 item = block_index();");
    for (size_t i = loops.size(); i-- > 0;) {
      const Loop& loop = loops[i];
      if (!axes.owns(loop.axis) && (loop.axis != Axis::q || axes.chunks == 1)) {
        line("const i32 {0}_first = 0, {0}_last = Space::{1}(args);", loop.name, loop.extent);
        continue;
      }
      if (!axes.owns(loop.axis)) {
        const ExprId chunks = blocks.constant_int(axes.chunks, DType::i64);
        blocks.set_root(blocks.op(Op::mul, DType::i64, {blocks.root(), chunks}));
        line("const i32 chunk = take_index(item, {0}), q_len = Space::q_len(args);", axes.chunks);
        line("const i32 q_chunk = (q_len + {0}) / {1} * {2};", axes.chunks * loop.block - 1, axes.chunks * loop.block,
             loop.block);
        line("const i32 q_first = chunk * q_chunk, q_last = int_min(q_first + q_chunk, q_len);");
        continue;
      }
      const ExprId count = blocks.import(ceil_div(loop.count, loop.block));
      blocks.set_root(blocks.op(Op::mul, DType::i64, {blocks.root(), count}));
      line("const i32 {0}_first = take_index(item, (Space::{1}(args) + {2}) / {3}) * {3};", loop.name, loop.extent,
           loop.block - 1, loop.block);
      line("const i32 {0}_last = int_min({0}_first + {1}, Space::{2}(args));", loop.name, loop.block, loop.extent);
    }
    // Nothing where the output is empty.
    for (const Dim& dim : type_of(sum.tensor).shape) {
      const ExprId some = blocks.op(Op::min, DType::i64, {blocks.dim(dim), blocks.constant_int(1, DType::i64)});
      blocks.set_root(blocks.op(Op::mul, DType::i64, {blocks.root(), some}));
    }
    phases_.back().blocks = std::move(blocks);
    if (axes.direct) line("tile_fill(out_0, 0);");
    for (const Loop& loop : loops) {
      line("TW_NO_UNROLL");
      line("for (i32 {0} = {0}_first; {0} < {0}_last; {0} += {1}) {{", loop.name, loop.block);
      indent_ += "  ";
    }
    line("const QueryRows rows = {{b, h, q, int_min(q + {}, q_last)}};", schedule_.block_q);
    line("const i32 kv_end = int_min(kv + {}, kv_last);", schedule_.block_kv);
    line("{}", kSkip);
    load(false, "b, h, q, rows.q_end");
    load(true, "b, h, kv, kv_end");
    recompute();
    if (axes.direct)
      line("tile_add(out_0, out_0, w_0);");
    else
      line("add_captured<Captured_{0}>(args, rows, kv, kv_end, w_0, offsets, Captured_{0}::sums(args, {1}));",
           sums_.sum, axes.chunks > 1 ? "chunk" : "0");
    for (size_t i = 0; i < loops.size(); ++i) {
      indent_.resize(indent_.size() - 2);
      line("}}");
    }
    if (axes.direct) {
      line("const QueryRows own = {{b_first, h_first, q_first, q_last}};");
      line("store_captured<Captured_{}>(args, own, kv_first, kv_last, out_0);", sums_.sum);
    }
    end_kernel();
  }

  const BackwardSpec& spec_;
  const CudaSchedule& schedule_;
  const std::string prefix_;
  BackwardSums sums_;
  CudaTiles tiles_;
  std::vector<ExprId> weights_;  ///< by the number of their struct
  std::string indent_, workspace_;
  std::vector<CudaPhase> phases_, last_;
};

}  // namespace

Result<CudaSource> generate_generic_backward(const BackwardSpec& spec, const CudaSchedule& schedule,
                                             const std::string& symbol_prefix) {
  DeviceNames names(spec.tensors, args_layout(spec));
  BackwardWriter writer(names, spec, schedule, symbol_prefix);
  const std::string kernels = writer.run();
  CudaSource source;
  source.parts = {std::string(device_file("math.cuh")), fmt::format("// {}\n", spec.name) + names.text() + "\n",
                  std::string(device_file("generic_tiles.cuh")), std::string(device_file("generic_backward.cuh")),
                  kernels};
  source.launch.schedule = schedule;
  source.launch.phases = writer.phases();
  source.launch.workspace_bytes = writer.workspace_bytes();
  return source;
}

}  // namespace tilewright::cuda
