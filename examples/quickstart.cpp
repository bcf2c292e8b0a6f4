// The README's example: a causal GQA attention, compiled for this CPU and run. tests/docs keeps the two equal.
#include <cstdio>
#include <vector>

#include "ir/text.h"
#include "runtime/engine.h"

using namespace tilewright;

int main() {
  auto graph = parse_graph(R"(
    graph @attention(%q: f32[B,32,S,128], %k: f32[B,8,S,128], %v: f32[B,8,S,128]) -> f32[B,32,S,128] {
      %kh = repeat_heads %k, times=4           : f32[B,32,S,128]
      %vh = repeat_heads %v, times=4           : f32[B,32,S,128]
      %s  = matmul_nt %q, %kh                  : f32[B,32,S,S]
      %a  = mul %s, 0.08838834764831845        : f32[B,32,S,S]
      %e  = mask_causal %a, align=top_left     : f32[B,32,S,S]
      %p  = softmax %e, axis=3                 : f32[B,32,S,S]
      %o  = matmul %p, %vh                     : f32[B,32,S,128]
      return %o
    })");
  auto engine = Engine::create();
  if (!graph || !engine) return 1;
  auto kernel = engine->compile(*graph);  // milliseconds; a second compile of the same graph is a cache hit
  if (!kernel) return std::puts(to_string(kernel.error()).c_str()), 1;

  const int64_t batch = 1, length = 256;
  std::vector<float> q(batch * 32 * length * 128, 0.5f), k(batch * 8 * length * 128, 0.25f), v(k.size(), 2.0f), o(q.size());
  const TensorView inputs[] = {TensorView::contiguous(q.data(), DType::f32, {batch, 32, length, 128}),
                               TensorView::contiguous(k.data(), DType::f32, {batch, 8, length, 128}),
                               TensorView::contiguous(v.data(), DType::f32, {batch, 8, length, 128})};
  const TensorView outputs[] = {TensorView::contiguous(o.data(), DType::f32, {batch, 32, length, 128})};
  auto done = kernel->run(inputs, outputs);
  if (!done) return std::puts(to_string(done.error()).c_str()), 1;
  for (const CpuSchedule& schedule : kernel->stats().step_reports[0].schedules) std::puts(print(schedule).c_str());
  std::printf("o[0] = %g\n", o[0]);
  return o[0] == 2.0f ? 0 : 1;
}
