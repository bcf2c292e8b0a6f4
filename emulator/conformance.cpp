#include "emulator/conformance.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

namespace tilewright {
namespace {

constexpr size_t kInputWords = 8192;
constexpr int64_t kRowBytes = 128;  // 64 elements of bf16

uint32_t word_of(float value) {
  uint32_t word = 0;
  std::memcpy(&word, &value, sizeof word);
  return word;
}

std::vector<uint32_t> input_words(ConformanceCase::Input kind, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<uint32_t> words(kInputWords);
  for (uint32_t& word : words) {
    switch (kind) {
      case ConformanceCase::Input::bits: word = static_cast<uint32_t>(random()); break;
      case ConformanceCase::Input::floats: word = word_of(normal(random)); break;
      case ConformanceCase::Input::pairs:
        // The upper half of a float is a bf16; of an f16 it has the sign and a moderate size as well.
        word = (word_of(normal(random)) & 0xffff0000u) | word_of(normal(random)) >> 16;
        break;
    }
  }
  return words;
}

TensorMapView view_map(const ConformanceCase::Map& map, void* base) {
  TensorMapView view;
  view.address = base;
  view.dtype = DType::bf16;
  view.rank = static_cast<int>(map.sizes.size());
  int64_t stride = 2;
  for (size_t i = 0; i < map.sizes.size(); ++i) {
    view.sizes[i] = map.sizes[i];
    view.box[i] = map.box[i];
    view.byte_strides[i] = stride;
    stride = i == 0 ? kRowBytes : stride * map.sizes[i];
  }
  return view;
}

}  // namespace

bool applies(const ConformanceCase& test, const CudaTarget& target) {
  return test.primitives < CudaPrimitives::sm90 || target.has_wgmma();
}

CudaSource conformance_source(const ConformanceCase& test) {
  CudaSource source;
  source.primitives = test.primitives;
  std::string maps;
  CudaPhase phase;
  phase.symbol = "conformance";
  phase.threads = test.threads;
  phase.shared_bytes = test.shared_bytes;
  for (size_t i = 0; i < test.maps.size(); ++i) {
    maps += fmt::format(", TW_PARAM TensorMap map{}", i);
    phase.tensor_maps.emplace_back();
  }
  source.parts = {
      fmt::format("struct Args {{ void* tensors[2]; i64 meta[1]; void* workspace; }};\n{}TW_KERNEL({}, 1) "
                  "conformance(TW_PARAM Args "
                  "args{}) {{\n  const u32* in = static_cast<const u32*>(args.tensors[0]);\n  u32* out = "
                  "static_cast<u32*>(args.tensors[1]);\n  const i32 t = thread_index();\n{}\n}}\n",
                  test.before, test.threads, maps, test.body)};
  source.launch.phases.push_back(std::move(phase));
  return source;
}

Result<std::vector<uint32_t>> run_conformance(const ConformanceCase& test, const CudaDevice& device, uint64_t seed) {
  const auto module = device.load(conformance_source(test));
  if (!module) return module.error();
  const std::vector<uint32_t> input = input_words(test.input, seed);
  std::vector<uint32_t> output(static_cast<size_t>(test.output_words), 0);
  const auto bytes = [](const std::vector<uint32_t>& words) { return static_cast<int64_t>(words.size() * 4); };
  const auto in = device.allocate(bytes(input)), out = device.allocate(bytes(output));
  if (!in) return in.error();
  if (!out) return out.error();
  if (auto ok = device.copy_in(in->get(), input.data(), bytes(input)); !ok) return ok.error();
  if (auto ok = device.copy_in(out->get(), output.data(), bytes(output)); !ok) return ok.error();
  const uint64_t words[] = {reinterpret_cast<uint64_t>(in->get()), reinterpret_cast<uint64_t>(out->get()), 0, 0};
  std::vector<TensorMapView> maps;
  for (const ConformanceCase::Map& map : test.maps) maps.push_back(view_map(map, map.store ? out->get() : in->get()));
  if (auto ok = (*module)->launch({0, 1, words, maps, nullptr}); !ok) return ok.error();
  if (auto ok = device.copy_out(output.data(), out->get(), bytes(output)); !ok) return ok.error();
  return output;
}

std::string compare_conformance(const ConformanceCase& test, const std::vector<uint32_t>& emulated,
                                const std::vector<uint32_t>& found) {
  for (size_t i = 0; i < emulated.size(); ++i) {
    if (found[i] == emulated[i]) continue;
    float a = 0, b = 0;
    std::memcpy(&a, &emulated[i], 4);
    std::memcpy(&b, &found[i], 4);
    if (std::abs(double{a} - double{b}) <= test.tolerance * (1 + std::abs(double{a}))) continue;
    return fmt::format("{}: word {} is {:#010x} ({:g}), and the emulator says {:#010x} ({:g})", test.name, i, found[i],
                       b, emulated[i], a);
  }
  return {};
}

}  // namespace tilewright
