// The generic backward template: any BackwardSpec on any target, score by score. Obvious rather than fast: operands of
// a block of queries and a block of keys are copied into dense rows first, then every kept score is two dot products,
// one evaluation of its weights, and one scaled row added per product. No work item waits for another:
//
//   rows      item = (b, h, query block), all keys       row products, stored once
//   columns   item = (b, kv head, block of keys), all query heads of the group and all queries: column products
//   captured  item = one of kPartialTables lists of (b, h), each with its own tables, which the last phases add up
//
// Each phase recomputes the scores that it needs.
#include "codegen/cpu/backward_generic.h"

#include <algorithm>

#include "codegen/cpu/cpu_module.h"
#include "codegen/cpu/launch_sizes.h"
#include "codegen/cpu/templates.h"

namespace tilewright::cpu {
using llvm::Value;

GenericBackward::GenericBackward(LlvmBuilder& builder, const FoldedWeights& folded, const CpuSchedule& schedule)
    : b_(builder),
      spec_(folded.spec),
      score_chain_(folded.score_chain),
      args_layout_(args_layout(spec_)),
      type_(spec_.accumulate),
      lanes_(schedule.lanes),
      block_q_(schedule.block_q),
      block_kv_(schedule.block_kv),
      copy_(builder, spec_.accumulate, schedule.lanes),
      writer_(builder, spec_.accumulate, schedule.lanes) {
  auto add = [&](int product, const DotTerm& dot) {
    const size_t queries = rows_of(q_rows_, dot.query, dot.head_dim, block_q_);
    pairs_.push_back({product, queries, rows_of(kv_rows_, dot.key, dot.head_dim, block_kv_)});
  };
  for (const DotTerm& dot : spec_.dots) add(0, dot);
  if (spec_.output_gradient) add(1, *spec_.output_gradient);
  auto product = [&](const BackwardProduct& what, std::vector<Rows>& operands, int64_t block, int64_t out_block) {
    const size_t operand = rows_of(operands, what.operand, what.width, block);
    const int64_t stride = operands[operand].stride;
    const DType type = spec_.tensors[static_cast<size_t>(what.output.tensor)].type.dtype;
    writer_.declare(RowWriter::Mode::store, type);
    return Product{&what, operand, stride, take(out_block * stride), type};
  };
  for (const BackwardProduct& what : spec_.rows) rows_.push_back(product(what, kv_rows_, block_kv_, block_q_));
  for (const BackwardProduct& what : spec_.columns) columns_.push_back(product(what, q_rows_, block_q_, block_kv_));
}

int64_t GenericBackward::take(int64_t elements) {
  const int64_t line = 64 / size_of(type_), here = scratch_elements_;
  scratch_elements_ += (elements + line - 1) / line * line;
  return here;
}

size_t GenericBackward::rows_of(std::vector<Rows>& list, const Access& access, int64_t width, int64_t block) {
  for (size_t i = 0; i < list.size(); ++i)
    if (list[i].access == access && list[i].width == width) return i;
  const DType type = spec_.tensors[static_cast<size_t>(access.tensor)].type.dtype;
  const int64_t stride = std::max<int64_t>(1, (width + lanes_ - 1) / lanes_) * lanes_;
  list.push_back({access, type, width, stride, take(block * stride)});
  copy_.declare(type);
  return list.size() - 1;
}

void GenericBackward::start(ArgsReader& args, const std::vector<ExprId>& roots) {
  weights_.emplace(b_, args, spec_.tensors, spec_.weights, roots, 1, Axis::kv);
  keep_.reset();
  keep_kv_.reset();
  if (!spec_.keep.is_constant_true()) keep_.emplace(b_, args, spec_.tensors, spec_.keep, 1, Axis::kv);
  if (!spec_.keep_kv.is_constant_true()) keep_kv_.emplace(b_, args, spec_.tensors, spec_.keep_kv, 1, Axis::kv);
}

/// Rows that `visible` hides read as zeros, without touching their memory.
void GenericBackward::load(ArgsReader& args, const std::vector<Rows>& list, Value* b, Value* h, Value* first,
                           Value* count, ExprEmitter* visible) {
  std::vector<RowAccess> sources;
  for (const Rows& rows : list) sources.push_back(resolve_access(b_, args, spec_, rows.access, b, h));
  b_.loop(b_.i64(0), count, 1, [&](Value* row) {
    Value *position = b_.add(first, row), *shown = b_.ir.getTrue();
    if (visible) {
      visible->set_axis(Axis::b, b);
      visible->set_axis(Axis::h, h);
      visible->set_axis(Axis::kv, position);
      shown = visible->emit();
    }
    for (size_t i = 0; i < list.size(); ++i)
      copy_.call(list[i].type, scratch(list[i], row),
                 b_.element_pointer(list[i].type, sources[i].base, b_.mul(position, sources[i].stride_seq)),
                 sources[i].stride_dim, b_.ir.CreateSelect(shown, b_.i64(list[i].width), b_.i64(0)), list[i].stride);
  });
}

/// Scores are summed as the generic template of the forward sums them, element after element: their rounding is the
/// LSE's, too (fold_weights). The other product takes whole vectors.
Value* GenericBackward::dot(const Pair& pair, Value* row, Value* column) {
  const Rows &queries = q_rows_[pair.queries], &keys = kv_rows_[pair.keys];
  Value *left = scratch(queries, row), *right = scratch(keys, column);
  auto chain = [&](int64_t from, int64_t to, int64_t lanes) {
    return b_.loop_nonempty(b_.i64(from), b_.i64(to), lanes, {b_.constant(type_, 0, lanes)},
                            [&](Value* d, const Values& carried) {
                              Value* a = b_.load_vector(type_, b_.element_pointer(type_, left, d), lanes);
                              Value* c = b_.load_vector(type_, b_.element_pointer(type_, right, d), lanes);
                              return Values{b_.fma(a, c, carried[0])};
                            })[0];
  };
  if (pair.product != 0) return b_.reduce_add(chain(0, queries.stride, lanes_));
  Value* sum = nullptr;
  for (int64_t d = 0, width = std::max<int64_t>(queries.width, 1); d < width; d += score_chain_) {
    Value* piece = chain(d, std::min(d + score_chain_, width), 1);
    sum = sum ? b_.ir.CreateFAdd(sum, piece) : piece;
  }
  return sum;
}

void GenericBackward::add_scaled(Value* target, Value* weight, Value* source, int64_t width) {
  Value* factor = b_.splat(weight, lanes_);
  b_.loop_nonempty(b_.i64(0), b_.i64(width), lanes_, {}, [&](Value* d, const Values&) {
    Value* slot = b_.element_pointer(type_, target, d);
    Value* from = b_.load_vector(type_, b_.element_pointer(type_, source, d), lanes_);
    b_.store_vector(type_, b_.fma(factor, from, b_.load_vector(type_, slot, lanes_)), slot);
    return Values{};
  });
}

void GenericBackward::clear(int64_t at, int64_t elements) {
  b_.loop_nonempty(b_.i64(at), b_.i64(at + elements), lanes_, {}, [&](Value* i, const Values&) {
    b_.store_vector(type_, b_.constant(type_, 0, lanes_), b_.element_pointer(type_, b_.argument(3), i));
    return Values{};
  });
}

void GenericBackward::points(const Place& place, const Body& body) {
  b_.loop(b_.i64(0), place.q_count, 1, [&](Value* row) {
    b_.loop(b_.i64(0), place.kv_count, 1, [&](Value* column) {
      Value *q = b_.add(place.q, row), *kv = b_.add(place.kv, column);
      auto set = [&](ExprEmitter& emitter) {
        emitter.set_axis(Axis::b, place.b);
        emitter.set_axis(Axis::h, place.h);
        emitter.set_axis(Axis::q, q);
        emitter.set_axis(Axis::kv, kv);
      };
      auto visit = [&] {
        ScoreLanes scores{};
        for (const Pair& pair : pairs_) {
          Value*& sum = scores[static_cast<size_t>(pair.product)];
          Value* term = dot(pair, row, column);
          sum = sum ? b_.ir.CreateFAdd(sum, term) : term;
        }
        set(*weights_);
        body(row, column, weights_->emit_roots(nullptr, scores, nullptr));
      };
      if (!keep_) return visit();
      set(*keep_);
      b_.when(keep_->emit(), visit);
    });
  });
}

void GenericBackward::over_queries(ArgsReader& args, Value* b, Value* h,
                                   const std::function<void(Value*, Value*)>& body) {
  Value* length = args.dim(spec_.q_len);
  b_.loop(b_.i64(0), length, block_q_, [&](Value* q) {
    Value* count = b_.min(b_.sub(length, q), b_.i64(block_q_));
    load(args, q_rows_, b, h, q, count, nullptr);
    body(q, count);
  });
}

void GenericBackward::over_keys(ArgsReader& args, Value* b, Value* h, const std::function<void(Value*, Value*)>& body) {
  Value* length = args.dim(spec_.kv_len);
  b_.loop(b_.i64(0), length, block_kv_, [&](Value* kv) {
    Value* count = b_.min(b_.sub(length, kv), b_.i64(block_kv_));
    load(args, kv_rows_, b, h, kv, count, keep_kv_ ? &*keep_kv_ : nullptr);
    body(kv, count);
  });
}

void GenericBackward::store(ArgsReader& args, const Product& product, Value* b, Value* h, Value* first, Value* count) {
  const RowAccess out = resolve_access(b_, args, spec_, product.what->output, b, h);
  Value* base = b_.element_pointer(product.type, out.base, b_.mul(first, out.stride_seq));
  writer_.call(RowWriter::Mode::store, product.type,
               {base, out.stride_seq, out.stride_dim, count, b_.i64(product.what->width)}, scratch(product, b_.i64(0)),
               product.stride);
}

void GenericBackward::row_kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  ArgsReader args(b_, args_layout_);
  std::vector<ExprId> roots;
  for (const Product& p : rows_) roots.push_back(p.what->weight);
  start(args, roots);
  ItemDecoder items(b_, args, spec_, block_q_);
  b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* number) {
    const Item item = items.decode(number);
    Value* rows = b_.sub(item.q_end, item.q_begin);
    for (const Product& p : rows_) clear(p.at, block_q_ * p.stride);
    load(args, q_rows_, item.b, item.h, item.q_begin, rows, nullptr);
    over_keys(args, item.b, item.h, [&](Value* kv, Value* keys) {
      points({item.b, item.h, item.q_begin, rows, kv, keys}, [&](Value* row, Value* column, const Values& weights) {
        for (size_t i = 0; i < rows_.size(); ++i)
          add_scaled(scratch(rows_[i], row), weights[i], scratch(kv_rows_[rows_[i].operand], column), rows_[i].stride);
      });
    });
    for (const Product& p : rows_) store(args, p, item.b, item.h, item.q_begin, rows);
  });
  b_.ret();
}

void GenericBackward::column_kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  ArgsReader args(b_, args_layout_);
  std::vector<ExprId> roots;
  for (const Product& p : columns_) roots.push_back(p.what->weight);
  start(args, roots);
  Value* kv_len = args.dim(spec_.kv_len);
  Value* blocks = b_.ceil_div(kv_len, block_kv_);
  Value* group = b_.i64(spec_.head_group);
  Value* kv_heads = b_.ir.CreateUDiv(extent_product(b_, args, spec_.heads), group);
  b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* number) {
    Value* sequence = b_.ir.CreateUDiv(number, blocks);
    Value* kv = b_.mul(b_.sub(number, b_.mul(sequence, blocks)), b_.i64(block_kv_));
    Value* keys = b_.min(b_.sub(kv_len, kv), b_.i64(block_kv_));
    Value* b = b_.ir.CreateUDiv(sequence, kv_heads);
    Value* first = b_.mul(b_.sub(sequence, b_.mul(b, kv_heads)), group);
    for (const Product& p : columns_) clear(p.at, block_kv_ * p.stride);
    b_.loop(first, b_.add(first, group), 1, [&](Value* h) {
      load(args, kv_rows_, b, h, kv, keys, keep_kv_ ? &*keep_kv_ : nullptr);
      over_queries(args, b, h, [&](Value* q, Value* rows) {
        points({b, h, q, rows, kv, keys}, [&](Value* row, Value* column, const Values& weights) {
          for (size_t i = 0; i < columns_.size(); ++i)
            add_scaled(scratch(columns_[i], column), weights[i], scratch(q_rows_[columns_[i].operand], row),
                       columns_[i].stride);
        });
      });
    });
    for (const Product& p : columns_) store(args, p, b, first, kv, keys);
  });
  b_.ret();
}

void GenericBackward::captured_kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  ArgsReader args(b_, args_layout_);
  std::vector<ExprId> roots;
  for (const CapturedSum& sum : spec_.captured) {
    roots.push_back(sum.weight);
    roots.insert(roots.end(), sum.index.begin(), sum.index.end());
  }
  start(args, roots);
  struct Table {
    Value *base, *elements;
    std::vector<Value*> limit, step;
  };
  std::vector<Table> tables;
  for (size_t i = 0; i < spec_.captured.size(); ++i) {
    const int tensor = spec_.captured[i].tensor;
    const auto rank = static_cast<int>(spec_.captured[i].index.size());
    Value* at = ExprEmitter(b_, args, spec_.tensors, table_at(i), 1, Axis::kv).emit();
    Table table{b_.byte_pointer(args.workspace(), at), b_.i64(1), {}, {}};
    for (int axis = rank - 1; axis >= 0; --axis) {
      table.limit.insert(table.limit.begin(), b_.sub(args.shape(tensor, axis), b_.i64(1)));
      table.step.insert(table.step.begin(), table.elements);
      table.elements = b_.mul(table.elements, args.shape(tensor, axis));
    }
    tables.push_back(std::move(table));
  }
  Value* heads = extent_product(b_, args, spec_.heads);
  Value* sequences = b_.mul(extent_product(b_, args, spec_.batch), heads);
  b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* list) {
    std::vector<Value*> own;
    for (const Table& table : tables) {
      own.push_back(b_.element_pointer(type_, table.base, b_.mul(list, table.elements)));
      b_.loop(b_.i64(0), table.elements, 1,
              [&](Value* i) { b_.store(type_, b_.constant(type_, 0), b_.element_pointer(type_, own.back(), i)); });
    }
    b_.loop(list, sequences, kPartialTables, [&](Value* sequence) {
      Value* b = b_.ir.CreateUDiv(sequence, heads);
      Value* h = b_.sub(sequence, b_.mul(b, heads));
      over_queries(args, b, h, [&](Value* q, Value* rows) {
        over_keys(args, b, h, [&](Value* kv, Value* keys) {
          points({b, h, q, rows, kv, keys}, [&](Value*, Value*, const Values& found) {
            size_t next = 0;
            for (size_t i = 0; i < tables.size(); ++i) {
              Value *weight = found[next++], *offset = b_.i64(0);
              for (size_t axis = 0; axis < tables[i].step.size(); ++axis) {
                Value* index = b_.ir.CreateSExtOrTrunc(found[next++], b_.i64_type());
                index = b_.max(b_.min(index, tables[i].limit[axis]), b_.i64(0));
                offset = b_.add(offset, b_.mul(index, tables[i].step[axis]));
              }
              Value* slot = b_.element_pointer(type_, own[i], offset);
              b_.store(type_, b_.ir.CreateFAdd(b_.load(type_, slot), weight), slot);
            }
          });
        });
      });
    });
  });
  b_.ret();
}

Expr GenericBackward::row_items() const { return item_count(spec_, block_q_); }

Expr GenericBackward::column_items() const {
  LaunchSizes s;
  const ExprId kv_heads = s.div(s.product(spec_.heads), spec_.head_group);
  return s.done(s.mul(s.mul(s.product(spec_.batch), kv_heads), s.blocks(s.dim(spec_.kv_len), block_kv_)));
}

/// Byte of the workspace.
Expr GenericBackward::table_at(size_t captured) const {
  LaunchSizes s;
  ExprId at = s.i(0);
  for (size_t i = 0; i < captured; ++i) at = s.add(at, s.import(table_bytes(spec_, i, kPartialTables)));
  return s.done(at);
}

CpuKernelSource generate_generic_backward(const BackwardSpec& given, const CpuSchedule& schedule,
                                          const CpuTarget& target, const std::string& prefix) {
  const FoldedWeights folded = fold_weights(given, false);
  const BackwardSpec& spec = folded.spec;
  CpuModule module = make_cpu_module(prefix + "_generic_backward");
  LlvmBuilder builder(module.state(), target);
  GenericBackward emitter(builder, folded, schedule);
  LaunchInfo launch;
  launch.schedule = schedule;
  auto phase = [&](const std::string& name, Expr items) {
    launch.phases.push_back({prefix + name, std::move(items)});
    return launch.phases.back().symbol;
  };
  if (!spec.rows.empty()) emitter.row_kernel(phase("_rows", emitter.row_items()));
  if (!spec.columns.empty()) emitter.column_kernel(phase("_columns", emitter.column_items()));
  if (!spec.captured.empty()) {
    LaunchSizes lists;
    emitter.captured_kernel(phase("_captured", lists.done(lists.i(kPartialTables))));
  }
  for (size_t i = 0; i < spec.captured.size(); ++i)
    emit_table_sum(builder, spec, phase(fmt::format("_table{}", i), table_rows(spec, i)), i, emitter.table_at(i),
                   kPartialTables);
  launch.scratch_bytes = emitter.scratch_bytes();
  launch.workspace_bytes = emitter.workspace_bytes();
  launch.packed_bytes.set_root(launch.packed_bytes.constant_int(0, DType::i64));
  return {std::move(module), std::move(launch)};
}

}  // namespace tilewright::cpu
