#include "ir/space_text.h"
#include "ir/text.h"

namespace tilewright {
namespace {

class AttentionParser : SpaceParser {
 public:
  explicit AttentionParser(std::string_view text) : SpaceParser(text, spec_) {}

  Result<AttentionSpec> run() {
    parse_signature("attention");
    while (!in_.failed() && !in_.at_mark("}")) parse_section();
    expect_sections("attention",
                    {"batch", "heads", "q_len", "kv_len", "dot", "value", "score", "keep", "normaliser", "output"});
    if (!in_.errors().empty()) return in_.errors();
    return std::move(spec_);
  }

 private:
  void parse_section() {
    const std::string key = parse_key({"dot"});
    if (in_.failed() || parse_space_section(key)) return;
    if (key == "value") {
      spec_.value_dim = in_.parse_int("the number of value columns");
      spec_.value = parse_access(in_, spec_.tensors);
    } else if (key == "weights") {
      spec_.weights = in_.parse_dtype_word();
    } else if (key == "score") {
      spec_.score = parse_region(spec_.accumulate);
    } else if (key == "normaliser") {
      parse_normaliser();
    } else if (key == "sink") {
      spec_.sink = parse_region(spec_.accumulate);
    } else if (key == "weight_factor") {
      spec_.weight_factor = parse_region(spec_.accumulate);
    } else if (key == "output") {
      spec_.output = parse_access(in_, spec_.tensors);
    } else if (key == "logsumexp") {
      spec_.logsumexp = parse_access(in_, spec_.tensors);
    } else {
      fail_unknown(key);
    }
  }

  void parse_normaliser() {
    if (in_.accept_word("none"))
      spec_.normaliser = Normaliser::none;
    else
      in_.expect_word("softmax", "or 'none' as the normaliser");
  }

  AttentionSpec spec_;
};

}  // namespace

Result<AttentionSpec> parse_attention(std::string_view text) { return AttentionParser(text).run(); }

}  // namespace tilewright
