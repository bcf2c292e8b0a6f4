#include "emulator/conformance.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace tilewright {
namespace {

TensorMapView view_map(const ConformanceCase::Map& map, void* base) {
  TensorMapView view;
  view.address = base;
  view.dtype = DType::bf16;
  view.rank = static_cast<int>(map.extents.size());
  int64_t stride = 2;
  for (size_t i = 0; i < map.extents.size(); ++i) {
    view.sizes[i] = map.extents[i];
    view.box[i] = map.box[i];
    view.byte_strides[i] = stride;
    stride *= map.extents[i];
  }
  return view;
}

}  // namespace

bool applies(const ConformanceCase& one, const CudaTarget& target) {
  return one.primitives < CudaPrimitives::sm90 || target.has_wgmma();
}

CudaSource conformance_source(const ConformanceCase& one) {
  CudaSource source;
  source.primitives = one.primitives;
  CudaPhase phase;
  phase.symbol = "kernel";
  phase.threads = one.threads;
  phase.shared_bytes = one.shared_bytes;
  std::string maps;
  for (size_t i = 0; i < one.maps.size(); ++i) {
    maps += fmt::format(", TW_PARAM TensorMap map{}", i);
    phase.tensor_maps.emplace_back();
  }
  source.parts = {fmt::format(
      "struct Args {{ void* tensors[2]; }};\n{}TW_KERNEL({}, 1) kernel(TW_PARAM Args args{}) {{\n"
      "const u32* in = static_cast<const u32*>(args.tensors[0]);\nu32* out = static_cast<u32*>(args.tensors[1]);\n"
      "const i32 t = thread_index();\nconst u32 base = shared_base();\n{}\n}}\n",
      one.before, one.threads, maps, one.body)};
  source.launch.phases.push_back(std::move(phase));
  return source;
}

Result<std::vector<uint32_t>> run_conformance(const ConformanceCase& one, const CudaDevice& device,
                                              std::span<const uint32_t> input) {
  const auto module = device.load(conformance_source(one));
  if (!module) return module.error();
  std::vector<uint32_t> output(one.output_words, 0);
  const auto in_bytes = static_cast<int64_t>(input.size_bytes()), out_bytes = static_cast<int64_t>(output.size() * 4);
  const auto in = device.allocate(in_bytes), out = device.allocate(out_bytes);
  if (!in) return in.error();
  if (!out) return out.error();
  if (auto ok = device.copy_in(in->get(), input.data(), in_bytes); !ok) return ok.error();
  if (auto ok = device.copy_in(out->get(), output.data(), out_bytes); !ok) return ok.error();
  const uint64_t words[] = {reinterpret_cast<uint64_t>(in->get()), reinterpret_cast<uint64_t>(out->get())};
  std::vector<TensorMapView> maps;
  for (const ConformanceCase::Map& map : one.maps)
    maps.push_back(view_map(map, map.over_output ? out->get() : in->get()));
  if (auto ok = (*module)->launch({0, 1, words, maps, nullptr}); !ok) return ok.error();
  if (auto ok = device.copy_out(output.data(), out->get(), out_bytes); !ok) return ok.error();
  return output;
}

std::string compare_conformance(const ConformanceCase& one, std::span<const uint32_t> words,
                                std::span<const uint32_t> wanted, const std::string& who) {
  if (wanted.size() != words.size())
    return fmt::format("{}: {} words, and {} wants {}", one.name, words.size(), who, wanted.size());
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == wanted[i]) continue;
    const auto found = std::bit_cast<float>(words[i]), want = std::bit_cast<float>(wanted[i]);
    if (std::isnan(found) && std::isnan(want)) continue;
    if (one.tolerance > 0 && std::fabs(found - want) <= one.tolerance * std::max(1.0f, std::fabs(want))) continue;
    return fmt::format("{}: word {} is {:#010x} ({:g}), and {} says {:#010x} ({:g})", one.name, i, words[i], found, who,
                       wanted[i], want);
  }
  return {};
}

std::string check_conformance(const ConformanceCase& one, const CudaDevice& device, const CudaDevice& emulator,
                              uint32_t seed) {
  const std::vector<uint32_t> input = one.input(seed), expected = one.expected(input);
  const auto emulated = run_conformance(one, emulator, input);
  if (!emulated) return fmt::format("{} on the emulator: {}", one.name, to_string(emulated.error()));
  const auto found = run_conformance(one, device, input);
  if (!found) return fmt::format("{}: {}", one.name, to_string(found.error()));
  std::string why = compare_conformance(one, *found, expected, "the PTX ISA");
  return why.empty() ? compare_conformance(one, *found, *emulated, "the emulator") : why;
}

}  // namespace tilewright
