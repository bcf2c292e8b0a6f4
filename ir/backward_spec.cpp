#include "ir/backward_spec.h"

namespace tilewright {
namespace {

template <class Spec, class Visit>
void visit_roots(Spec& spec, Visit visit) {
  for (auto* products : {&spec.rows, &spec.columns})
    for (auto& product : *products) visit(product.weight);
  for (auto& sum : spec.captured) {
    visit(sum.weight);
    for (auto& index : sum.index) visit(index);
  }
}

}  // namespace

std::vector<ExprId*> roots(BackwardSpec& spec) {
  std::vector<ExprId*> out;
  visit_roots(spec, [&](ExprId& root) { out.push_back(&root); });
  return out;
}

std::vector<ExprId> roots(const BackwardSpec& spec) {
  std::vector<ExprId> out;
  visit_roots(spec, [&](ExprId root) { out.push_back(root); });
  return out;
}

}  // namespace tilewright
