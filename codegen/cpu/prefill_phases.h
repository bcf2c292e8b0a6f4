// The two phases of the prefill templates, on vectors and on tiles, as loops over work items; what an item does is the
// template's own.
#pragma once

#include <functional>
#include <string>

#include "codegen/cpu/access.h"
#include "ir/attention_spec.h"

namespace tilewright::cpu {

/// Keys of one (b, kv head) that become a packed block; `head` is the first query head that shares them.
struct PackItem {
  RowAccess key, value;
  llvm::Value *first, *count;
  llvm::Value *b, *head;
  llvm::Value* packed;  ///< where the block goes
};

/// Phase 1, a kernel: items are (b, kv head, block of block_kv keys), each a packed block of block_bytes in
/// KernelArgs::packed.
void emit_pack_kernel(LlvmBuilder& builder, const AttentionSpec& spec, const ArgsLayout& layout, int64_t block_kv,
                      int64_t block_bytes, const std::string& symbol, const std::function<void(const PackItem&)>& body);

/// Phase 2, the loop of its kernel: items are (b, h, block of block_q rows), the last rows of a head first, since under
/// a causal mask they are the longest. `kv_head` counts the KV heads of all batches: which packed blocks are the
/// item's.
void for_query_blocks(LlvmBuilder& builder, ArgsReader& args, const AttentionSpec& spec, int64_t block_q,
                      const std::function<void(const Item& item, llvm::Value* kv_head)>& body);

}  // namespace tilewright::cpu
