// The seam of the fast backward template: who keeps the operands of its five products and computes them. The template
// keeps the order of work, scores (ScorePass), sums in memory and turns; see backward_template.cpp.
//
// Between both lie tiles of f32 or f64, rows of scores with keys as lanes: products leave s and t there, the score pass
// turns them into weights in place, and products take those.
#pragma once

#include <functional>

#include "codegen/cpu/backward_layout.h"

namespace tilewright::cpu {

/// A worker's scratch, argument 3 of the function under construction, by offsets of BackwardLayout.
class BackwardScratch {
 public:
  BackwardScratch(LlvmBuilder& builder, const BackwardLayout& layout) : b_(builder), layout_(layout) {}

 protected:
  llvm::Value* at(llvm::Value* base, llvm::Value* elements) {
    return b_.element_pointer(layout_.dtype, base, elements);
  }
  llvm::Value* at(llvm::Value* base, int64_t elements) { return at(base, b_.i64(elements)); }
  llvm::Value* scratch(int64_t elements) { return at(b_.argument(3), elements); }
  /// Row `row` of a region of scratch.
  llvm::Value* scratch(int64_t region, llvm::Value* row, int64_t stride) {
    return at(scratch(region), b_.mul(row, b_.i64(stride)));
  }
  llvm::Value* null() { return llvm::ConstantPointerNull::get(b_.ir.getPtrTy()); }

  LlvmBuilder& b_;
  const BackwardLayout& layout_;
};

class BackwardProducts : protected BackwardScratch {
 public:
  using BackwardScratch::BackwardScratch;
  virtual ~BackwardProducts() = default;

  // All emit code into the main kernel. enter() and leave() stand at its start and end.
  virtual void enter() {}
  virtual void leave() {}
  /// Keys [first, first + count) of (b, h), count > 0; column sums start at zero.
  virtual void load_chunk(llvm::Value* b, llvm::Value* h, llvm::Value* first, llvm::Value* count) = 0;
  /// Query rows [begin, begin + count) of (b, h), count > 0.
  virtual void load_queries(llvm::Value* b, llvm::Value* h, llvm::Value* begin, llvm::Value* count) = 0;

  /// The loaded query rows against keys of the loaded chunk.
  struct Tile {
    llvm::Value* rows;     ///< of the query block, at least 1
    llvm::Value* columns;  ///< at least 1
    llvm::Value* offset;   ///< of the first column in the chunk, whole panels
  };
  /// A strip of its rows: its first, and how many.
  struct Strip {
    llvm::Value *row, *rows;
  };
  /// s and t of the strip into the tiles.
  virtual void scores(const Tile& tile, const Strip& strip) = 0;
  /// The tiles hold the strip's weights, zeros up to whole units of rows (row_unit) and columns (rounded).
  virtual void take_weights(const Tile&, const Strip&) {}
  /// After all strips: row sums and column sums; `more`: i1, row sums of these query rows hold those of other tiles.
  virtual void outputs(const Tile& tile, llvm::Value* more) = 0;

  /// Sums of a column product for keys [first, first + rows) of the chunk, dense rows `stride` elements apart.
  struct ColumnSums {
    llvm::Value *first, *rows, *source;
    int64_t stride;
  };
  /// All of the chunk's `count` keys, piece by piece.
  virtual void column_sums(size_t product, llvm::Value* count, const std::function<void(const ColumnSums&)>& piece) = 0;
};

}  // namespace tilewright::cpu
