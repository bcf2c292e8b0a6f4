// Products of the backward template on vector registers (microkernel.h), operands widened to the accumulation type.
#pragma once

#include <map>
#include <memory>

#include "codegen/cpu/backward_pack.h"
#include "codegen/cpu/backward_products.h"

namespace tilewright::cpu {

class FmaBackwardProducts final : public BackwardProducts {
 public:
  /// Emits the internal functions it needs; call with no function under construction.
  FmaBackwardProducts(LlvmBuilder& builder, const BackwardSpec& spec, const ArgsLayout& args,
                      const BackwardLayout& layout);

  void enter() override;
  void load_chunk(llvm::Value* b, llvm::Value* h, llvm::Value* first, llvm::Value* count) override;
  void load_queries(llvm::Value* b, llvm::Value* h, llvm::Value* begin, llvm::Value* count) override;
  void scores(const Tile& tile, const Strip& strip) override;
  void outputs(const Tile& tile, llvm::Value* more) override;
  void column_sums(size_t product, llvm::Value* count, const std::function<void(const ColumnSums&)>& piece) override;

 private:
  TileProduct& product(RegisterTile shape, AOrder order);
  llvm::Value* tiles_of(llvm::Value* count, int64_t unit) { return b_.ceil_div(count, unit); }

  std::map<std::tuple<int64_t, int64_t, AOrder>, std::unique_ptr<TileProduct>> products_;
  BackwardPacker packer_;
};

}  // namespace tilewright::cpu
