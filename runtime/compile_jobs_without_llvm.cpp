// In place of compile_jobs.cpp and what it needs, in a build with TILEWRIGHT_LLVM=OFF.
#include "runtime/compile_jobs.h"
#include "runtime/kernel_entry.h"

namespace tilewright {

bool generates_code() { return false; }
std::string kernel_key(const CompileJob&, const CpuTarget&) {
  TW_CHECK(!"this build generates no code");
  return {};
}
void run_jobs(std::vector<CompileJob>&, const CompileRequest&) { TW_CHECK(!"this build generates no code"); }
std::string problem_of_kernel(std::string_view) { return {}; }

}  // namespace tilewright
