// Writes one kernel's dump folder.
#pragma once

#include "runtime/compile.h"

namespace tilewright {

/// The manifest: times, templates and why, refusals, schedules, scratch, code size. JSON text.
std::string manifest(const Compiled& compiled, const CpuTarget& target);

/// Writes texts and manifest.json to <directory>/<graph name>-<hash>/; returns that folder. Errors: I/O.
Result<std::string> write_dump_folder(const std::string& directory, const std::string& graph_name,
                                      const std::string& hash, const std::vector<StageText>& texts,
                                      const std::string& manifest);
/// The same for a CPU kernel.
Result<std::string> write_dump(const std::string& directory, const Compilation& compilation, const CpuTarget& target,
                               const std::string& hash);

}  // namespace tilewright
