// The part of KvRange that decides what is visited, as code: the keys that a block of rows may keep, and whether a
// block of rows and keys keeps nothing or everything.
#pragma once

#include <optional>

#include "codegen/cpu/access.h"
#include "codegen/cpu/expr_emitter.h"
#include "ir/score_space.h"

namespace tilewright::cpu {

class BlockTests {
 public:
  /// Emits internal functions for the tests that read tables; call with no function under construction.
  BlockTests(LlvmBuilder& builder, const ScoreSpace& space, const ArgsLayout& layout);
  /// In the entry of the function that asks.
  void start(ArgsReader& args);

  struct Keys {
    llvm::Value *begin, *end;
  };
  /// Within [0, kv_len].
  Keys keys(const RowBlock& rows);
  /// i1 of rows and keys [begin, end), which are not empty.
  llvm::Value* skip(const RowBlock& rows, const Keys& keys) { return test(kSkip, rows, keys); }
  llvm::Value* full(const RowBlock& rows, const Keys& keys) { return test(kFull, rows, keys); }
  // Of rows within a larger block of rows and keys [kv, end), for which `full` was asked where that scans (else null).
  /// The keys that the rows may keep: from whole panels of `panel` keys after kv on; none when begin >= end.
  Keys shown(const RowBlock& rows, llvm::Value* kv, llvm::Value* end, int64_t panel, llvm::Value* full);
  /// i1: every row keeps all of `keys`, which are not empty.
  llvm::Value* all_kept(const RowBlock& rows, const Keys& keys, llvm::Value* full);

  /// A test that reads tables is a function that scans them: ask it rarely.
  bool skip_scans() const { return functions_[kSkip]; }
  bool full_scans() const { return functions_[kFull]; }

 private:
  enum Which { kSkip, kFull };
  llvm::Value* test(Which which, const RowBlock& rows, const Keys& keys);
  void emit_function(Which which, const Expr& test);
  void set_rows(ExprEmitter& emitter, const RowBlock& rows);

  LlvmBuilder& b_;
  const ScoreSpace& space_;
  const ArgsLayout& layout_;
  llvm::Value* kv_len_ = nullptr;
  std::optional<ExprEmitter> begin_, end_, tests_[2];  ///< absent when trivial
  llvm::Function* functions_[2] = {};
};

}  // namespace tilewright::cpu
