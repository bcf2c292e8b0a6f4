// The whole line as one function: verify → canonicalize → fuse → per attention: tile program, plan, generate, LLVM,
// link.
#pragma once

#include "runtime/cache_writer.h"
#include "runtime/compiled.h"
#include "runtime/tuning_store.h"

namespace tilewright {

/// One dump file.
struct StageText {
  std::string file;  ///< "03_tile.tile", "05_emit.decode.ll"
  std::string text;
};

struct CompileRequest {
  CpuTarget target;
  CompileOptions options;
  bool want_texts = false;              ///< fills Compilation::texts
  CacheWriter* disk = nullptr;          ///< where object code is looked up and kept; null = nowhere
  bool ahead_of_time = false;           ///< no code is generated: every step runs on the tier
  const TuningStore* tuning = nullptr;  ///< schedules in place of the rules'; null = the rules
  bool link = true;                     ///< false: for a target that is not this machine; the result does not run
};

/// What the front half makes; `canonical_text` is the cache key of everything that follows.
struct FrontEnd {
  Graph canonical;
  std::string canonical_text;
  std::vector<StageTime> stages;
};
Result<FrontEnd> compile_front(const Graph& graph);

/// What CompileOptions::require_fused complains of; empty when all is fused.
Diagnostics complain_unfused(const Program& program);

struct Compilation {
  std::shared_ptr<Compiled> compiled;
  std::vector<StageText> texts;
};
Result<Compilation> compile_back(const Graph& graph, FrontEnd front, const CompileRequest& request);
/// The same with `ahead_of_time` set; what the tier does not fuse becomes steps of their own.
Result<Compilation> compile_ahead_of_time(const Graph& graph, FrontEnd front, CompileRequest request);

}  // namespace tilewright
