// Every example graph through the oracle, before and after canonicalisation: two independent expansions of sugar and
// of decomposed softmax must agree.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "compiler/passes.h"
#include "ir/interp.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "tests/support/paths.h"
#include "tests/support/random_graph.h"

namespace tilewright {
namespace {

using testing::Layout;
using testing::TestTensor;

std::vector<std::filesystem::path> examples() {
  std::vector<std::filesystem::path> files;
  for (const char* folder : {"variants", "models"})
    for (const auto& entry :
         std::filesystem::directory_iterator(std::filesystem::path(testing::source_dir()) / "examples" / folder))
      if (entry.path().extension() == ".attn") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

/// Sizes small enough to evaluate whole.
DimBindings small_dims(const Graph& graph) {
  DimBindings dims;
  for (ValueId id : graph.params)
    for (const Dim& dim : graph.type(id).shape)
      for (const auto& [name, coefficient] : dim.terms())
        dims[name] = name == "B" ? 2 : name == "Sq" ? 5 : name == "Sk" ? 9 : name == "S" ? 6 : 4;
  return dims;
}

TEST(Examples, CanonicalGraphsMeanTheSame) {
  for (const std::filesystem::path& file : examples()) {
    SCOPED_TRACE(file.filename().string());
    std::ifstream stream(file);
    std::stringstream text;
    text << stream.rdbuf();
    auto graph = parse_graph(text.str());
    ASSERT_TRUE(graph.ok()) << to_string(graph.error());
    ASSERT_TRUE(verify(*graph).empty()) << to_string(verify(*graph));
    auto canonical = canonicalize(*graph);
    ASSERT_TRUE(canonical.ok()) << to_string(canonical.error());
    const DimBindings dims = small_dims(*graph);
    std::mt19937_64 random(3);
    std::normal_distribution<double> gauss;
    std::vector<TestTensor> tensors;
    std::vector<TensorView> views;
    for (ValueId id : graph->params) {
      const TensorType& type = graph->type(id);
      TestTensor& tensor =
          tensors.emplace_back(type.dtype, testing::concrete_shape(type, dims), Layout::reversed, random);
      for (int64_t i = 0; i < tensor.size(); ++i)
        tensor.set(i, is_float(type.dtype) ? gauss(random) : static_cast<double>(random() % 5));
      views.push_back(tensor.view());
    }
    for (size_t r = 0; r < graph->results.size(); ++r) {
      auto before = interpret(*graph, dims, views, r, std::nullopt, Precision::oracle);
      auto after = interpret(*canonical, dims, views, r, std::nullopt, Precision::oracle);
      ASSERT_TRUE(before.ok()) << to_string(before.error());
      ASSERT_TRUE(after.ok()) << to_string(after.error());
      ASSERT_EQ(before->values.size(), after->values.size());
      for (size_t i = 0; i < before->values.size(); ++i) {
        const auto x = static_cast<double>(before->values[i]), y = static_cast<double>(after->values[i]);
        EXPECT_TRUE(x == y || (std::isnan(x) && std::isnan(y)) ||
                    std::fabs(x - y) <= 1e-12 * std::max(1.0, std::fabs(x)))
            << i << ": " << x << " against " << y;
      }
    }
  }
}

}  // namespace
}  // namespace tilewright
