// The README's example; tests/docs keeps the two equal.
#include <cstdio>
#include <vector>

#include "ir/text.h"
#include "runtime/engine.h"

using namespace tilewright;

int main() {
  auto graph = parse_graph(R"(
    graph @attention(%q: f32[B,8,S,64], %k: f32[B,8,S,64], %v: f32[B,8,S,64]) -> f32[B,8,S,64] {
      %s = matmul_nt %q, %k                : f32[B,8,S,S]
      %a = mul %s, 0.125                   : f32[B,8,S,S]
      %e = mask_causal %a, align=top_left  : f32[B,8,S,S]
      %p = softmax %e, axis=3              : f32[B,8,S,S]
      %o = matmul %p, %v                   : f32[B,8,S,64]
      return %o
    })");
  auto engine = Engine::create();
  auto kernel = engine->compile(*graph);  // milliseconds; one kernel serves every B, S and stride
  if (!kernel) return std::puts(to_string(kernel.error()).c_str()), 2;
  std::vector<float> q(8 * 512 * 64, 0.5f), k(q), v(q.size(), 2.0f), o(q.size());
  const auto tensor = [](std::vector<float>& x) {
    return TensorView::contiguous(x.data(), DType::f32, {1, 8, 512, 64});
  };
  auto done = kernel->run(std::vector{tensor(q), tensor(k), tensor(v)}, std::vector{tensor(o)});
  if (!done) return std::puts(to_string(done.error()).c_str()), 2;
  std::printf("o[0] = %g\n%s\n", o[0], print(kernel->stats().step_reports[0].schedules.back()).c_str());
}
