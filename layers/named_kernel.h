// NamedKernel: a compiled graph whose params and results are bound by name, with what its runs took.
#pragma once

#include <map>
#include <string>

#include "runtime/engine.h"

namespace tilewright {

using TensorsByName = std::map<std::string, TensorView, std::less<>>;

/// For people: what was compiled and what the last run took.
struct KernelDiagnostics {
  std::string role;  ///< "forward", "backward"
  CompileStats stats;
  double last_run_ms = 0;   ///< 0 before the first run
  MemoryEstimate memory{};  ///< of the last run, in bytes
};
std::string print(const KernelDiagnostics& diagnostics);

class NamedKernel {
 public:
  static Result<NamedKernel> compile(const Engine& engine, const Graph& graph, const CompileOptions& options,
                                     std::string role);

  const Graph& graph() const { return kernel_.graph(); }
  const Kernel& kernel() const { return kernel_; }
  /// Shapes of the results by name, in return order, for these inputs. Errors as Kernel::bind gives them.
  struct ResultShape {
    std::string name;
    TensorType type;
    std::vector<int64_t> shape;
  };
  Result<std::vector<ResultShape>> result_shapes(const TensorsByName& inputs) const;
  /// `inputs` and `outputs` hold at least the graph's params and results. Errors leave the outputs untouched.
  Result<Done> run(const TensorsByName& inputs, const TensorsByName& outputs);
  const KernelDiagnostics& diagnostics() const { return diagnostics_; }

 private:
  NamedKernel(Kernel kernel, int workers) : kernel_(std::move(kernel)), workers_(workers) {}
  std::vector<TensorView> params(const TensorsByName& inputs) const;

  Kernel kernel_;
  int workers_;
  KernelDiagnostics diagnostics_;
};

}  // namespace tilewright
