#include "ir/space_text.h"
#include "ir/text.h"

namespace tilewright {
namespace {

class AttentionPrinter : SpacePrinter {
 public:
  explicit AttentionPrinter(const AttentionSpec& spec) : SpacePrinter(spec), spec_(spec) {}

  std::string run() {
    print_space("attention");
    line("value", fmt::format("{} {}", spec_.value_dim, access(spec_.value)));
    if (spec_.weights != DType::f32) line("weights", std::string(to_string(spec_.weights)));
    region("score(s; b, h, q, kv)", spec_.score, spec_.accumulate);
    print_masks();
    line("normaliser", spec_.normaliser == Normaliser::softmax ? "softmax" : "none");
    if (spec_.sink) region("sink(b, h, q)", *spec_.sink, spec_.accumulate);
    if (spec_.weight_factor) region("weight_factor(b, h, q, kv)", *spec_.weight_factor, spec_.accumulate);
    line("output", access(spec_.output));
    if (spec_.logsumexp) line("logsumexp", access(*spec_.logsumexp));
    return text_ + "}\n";
  }

 private:
  const AttentionSpec& spec_;
};

}  // namespace

std::string print(const AttentionSpec& spec) { return AttentionPrinter(spec).run(); }

}  // namespace tilewright
