#include "layers/attention_layer.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "layers/safetensors.h"
#include "runtime/convert.h"

namespace tilewright {

std::string print(const LayerDiagnostics& diagnostics) {
  std::string out = diagnostics.layer + "\n";
  for (const std::string& note : diagnostics.notes) out += "note: " + note + "\n";
  for (const KernelDiagnostics& kernel : diagnostics.kernels) out += print(kernel);
  return out;
}

template <class T>
Result<Done> AttentionLayer<T>::initialise(const AttentionShape& shape, const AttentionConfig& config,
                                           Activation activation, bool materialise,
                                           const std::optional<Engine>& engine) {
  if (auto ok = check(shape, config); !ok) return ok;
  request_ = {shape, config, activation, dtype_of<T>};
  materialise_ = materialise;
  seed_ = static_cast<int64_t>(config.seed);
  slots_ = tilewright::parameter_slots(shape, config);
  if (engine) {
    engine_ = engine;
  } else {
    auto own = Engine::create();
    if (!own) return own.error();
    engine_ = std::move(*own);
  }
  auto forward = NamedKernel::compile(*engine_, make_training_graph(), compile_options(), "forward");
  if (!forward) return forward.error();
  forward_ = std::move(*forward);
  initialise_parameters();
  gradients_.assign(parameters_.size(), T(0));
  if (config.positions == PositionalEncoding::rope) make_rope_tables();
  return Done{};
}

template <class T>
CompileOptions AttentionLayer<T>::compile_options() const {
  CompileOptions options;
  options.materialise = materialise_;
  options.tiles = config().tiles;
  options.max_isa = config().target;
  return options;
}

/// Xavier's uniform distribution for weights, zeros for biases; the same on every platform.
template <class T>
void AttentionLayer<T>::initialise_parameters() {
  std::mt19937_64 random(config().seed);
  parameters_.assign(static_cast<size_t>(slots_.back().offset + slots_.back().count), T(0));
  for (const ParameterSlot& slot : slots_) {
    if (slot.shape.size() != 2) continue;
    const double limit = std::sqrt(6.0 / static_cast<double>(slot.shape[0] + slot.shape[1]));
    for (int64_t i = 0; i < slot.count; ++i) {
      const double unit = static_cast<double>(random() >> 11) * 0x1p-53;
      parameters_[static_cast<size_t>(slot.offset + i)] = static_cast<T>(limit * (2 * unit - 1));
    }
  }
}

template <class T>
void AttentionLayer<T>::make_rope_tables() {
  const int64_t half = head_dimension() / 2;
  cos_ = sin_ = Tensor<T>({sequence_length(), half});
  for (int64_t position = 0; position < sequence_length(); ++position)
    for (int64_t i = 0; i < half; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(head_dimension());
      const double angle = static_cast<double>(position) * std::pow(config().rope_base, exponent);
      cos_.values[static_cast<size_t>(position * half + i)] = static_cast<T>(std::cos(angle));
      sin_.values[static_cast<size_t>(position * half + i)] = static_cast<T>(std::sin(angle));
    }
}

template <class T>
TensorsByName AttentionLayer<T>::own_tensors() const {
  TensorsByName tensors;
  for (const ParameterSlot& slot : slots_)
    tensors[slot.name] =
        TensorView::contiguous(const_cast<T*>(parameters_.data()) + slot.offset, dtype_of<T>, slot.shape);
  tensors["cos"] = cos_.view();
  tensors["sin"] = sin_.view();
  tensors["seed"] = TensorView::contiguous(const_cast<int64_t*>(&seed_), DType::i64, {});
  tensors["offset"] = TensorView::contiguous(const_cast<int64_t*>(&offset_), DType::i64, {});
  return tensors;
}

template <class T>
Result<Done> AttentionLayer<T>::check_input(const char* what, const TensorView& view) const {
  const std::vector<int64_t> shape(view.shape.begin(), view.shape.begin() + view.rank);
  const std::string found = fmt::format("{}[{}]", to_string(view.dtype), fmt::join(shape, ","));
  if (view.dtype != dtype_of<T>)
    return invalid("the {} is {}, but the layer computes in {}", what, found, to_string(dtype_of<T>));
  if (view.rank != 3)
    return invalid("the {} is {}, of rank {}; it must be [B,S,{}], of rank 3", what, found, view.rank, embedding_dim());
  if (view.shape[2] != embedding_dim())
    return invalid("the {} is {}, {} wide, but the embedding dim is {}", what, found, view.shape[2], embedding_dim());
  if (view.shape[1] > sequence_length())
    return invalid("the {} is {}, {} long, but the sequence length is {}", what, found, view.shape[1],
                   sequence_length());
  return Done{};
}

template <class T>
Result<Tensor<T>> AttentionLayer<T>::forward(const TensorView& input) {
  if (auto ok = check_input("input", input); !ok) return ok.error();
  TensorsByName inputs = own_tensors();
  inputs["x"] = input;
  int64_t draw = offset_ + 1;  // every forward pass drops others; backward drops what the last one did
  inputs["offset"] = TensorView::contiguous(&draw, DType::i64, {});
  auto shapes = current().result_shapes(inputs);
  if (!shapes) return shapes.error();
  Tensor<T> y, weights;
  ForwardState state;
  TensorsByName outputs;
  for (const NamedKernel::ResultShape& result : *shapes) {
    if (result.name == "y")
      outputs[result.name] = (y = Tensor<T>(result.shape)).view();
    else if (result.name == "attention_weights")
      outputs[result.name] = (weights = Tensor<T>(result.shape)).view();
    else
      outputs[result.name] = (state.saved[result.name] = DenseTensor(result.type.dtype, result.shape)).view();
  }
  if (auto done = current().run(inputs, outputs); !done) return done.error();
  attention_weights_ = std::move(weights);
  offset_ = draw;
  state_.reset();
  if (!training_) return y;
  state.input = Tensor<T>({input.shape[0], input.shape[1], input.shape[2]});
  convert(input, state.input.view());
  // Some activations have their derivative from their result.
  const auto reads_result = [](const Graph& backward) {
    return std::ranges::any_of(backward.params, [&](ValueId id) { return backward[id].name == "y"; });
  };
  if (gradient_ && reads_result(gradient_->backward)) {
    DenseTensor& kept = state.saved["y"] = DenseTensor(dtype_of<T>, y.shape);
    convert(y.view(), kept.view());
  }
  state_ = std::move(state);
  return y;
}

template <class T>
Result<Done> AttentionLayer<T>::set_parameters(std::span<const T> values) {
  if (values.size() != parameters_.size())
    return invalid("{} parameters were given, but the layer has {}", values.size(), parameters_.size());
  std::copy(values.begin(), values.end(), parameters_.begin());
  state_.reset();
  return Done{};
}

template <class T>
LayerDiagnostics AttentionLayer<T>::diagnostics() const {
  LayerDiagnostics out;
  const AttentionConfig& c = config();
  out.layer = fmt::format(
      "{} of {}: sequence length {}, embedding dim {}, {} heads of {}, {} kv heads, activation {}, positions {}{}{}",
      materialise_ ? "materialised attention" : "flash attention", to_string(dtype_of<T>), sequence_length(),
      embedding_dim(), head_count(), head_dimension(), kv_head_count(), to_string(activation()), to_string(c.positions),
      c.positions == PositionalEncoding::rope ? fmt::format(" {}", to_string(c.rope_layout)) : "",
      c.causal ? ", causal" : "");
  for (const auto* kernel : {&forward_, &inference_, &backward_})
    if (*kernel) out.kernels.push_back((*kernel)->diagnostics());
  if (!no_training_.empty()) out.notes.push_back("no training: " + no_training_);
  if (c.return_attention_weights && !materialise_)
    out.notes.push_back("the attention weights are returned, so that scores are materialised and nothing is fused");
  if (!c.tiles.empty() && forward_->diagnostics().stats.fused_attentions == 0)
    out.notes.push_back(
        fmt::format("tiles {}x{} have no effect: no attention is fused", c.tiles.block_q, c.tiles.block_kv));
  if (c.target && engine_->target().isa < *c.target)
    out.notes.push_back(fmt::format("target {} was asked for, but this CPU or engine has {}", to_string(*c.target),
                                    to_string(engine_->target().isa)));
  return out;
}

template <class T>
void AttentionLayer<T>::reset_state() {
  state_.reset();
  zero_gradients();
  attention_weights_ = {};
}

template <class T>
Result<Done> AttentionLayer<T>::save(const std::string& path) const {
  std::vector<NamedTensor> tensors;
  const TensorsByName own = own_tensors();
  for (const ParameterSlot& slot : slots_) tensors.push_back({slot.name, own.at(slot.name)});
  return write_safetensors(path, tensors, {{"format", "tilewright"}});
}

template <class T>
Result<Done> AttentionLayer<T>::load(const std::string& path) {
  auto file = read_safetensors(path);
  if (!file) return file.error();
  std::vector<T> values(parameters_.size());
  for (const ParameterSlot& slot : slots_) {
    const auto found = file->entries.find(slot.name);
    if (found == file->entries.end()) return invalid("{} has no tensor '{}'", path, slot.name);
    const SafetensorsEntry& entry = found->second;
    if (!is_float(entry.dtype))
      return invalid("{} holds '{}' as {}, which is no float", path, slot.name, to_string(entry.dtype));
    if (entry.shape != slot.shape)
      return invalid("{} holds '{}' as [{}], but the layer's is [{}]", path, slot.name, fmt::join(entry.shape, ","),
                     fmt::join(slot.shape, ","));
    convert(file->view(entry), TensorView::contiguous(values.data() + slot.offset, dtype_of<T>, slot.shape));
  }
  for (const auto& [name, entry] : file->entries)
    if (std::none_of(slots_.begin(), slots_.end(), [&](const ParameterSlot& slot) { return slot.name == name; }))
      return invalid("{} holds '{}', which is no parameter of the layer", path, name);
  parameters_ = std::move(values);
  state_.reset();
  return Done{};
}

template class AttentionLayer<float>;
template class AttentionLayer<double>;

}  // namespace tilewright
