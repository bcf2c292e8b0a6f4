#include "ir/bind.h"

#include <limits>

namespace tilewright {
namespace {

struct Origin {
  std::string parameter;
  size_t axis = 0;
};

/// coefficient of the only name of `dim` that has no binding yet; nullptr when none or several are open.
const std::pair<const std::string, int64_t>* only_open_term(const Dim& dim, const DimBindings& bound) {
  const std::pair<const std::string, int64_t>* open = nullptr;
  for (const auto& term : dim.terms()) {
    if (bound.contains(term.first)) continue;
    if (open) return nullptr;
    open = &term;
  }
  return open;
}

class Binder {
 public:
  Binder(std::span<const TensorType> types, std::span<const std::string> names, std::span<const TensorView> views)
      : types_(types), names_(names), views_(views) {}

  Result<DimBindings> bind() {
    check_types();
    if (!errors_.empty()) return errors_;
    while (solve_some() && errors_.empty()) {
    }
    if (errors_.empty()) check_dims();
    if (!errors_.empty()) return errors_;
    return std::move(bound_);
  }

 private:
  void check_types() {
    if (types_.size() != views_.size()) {
      errors_.error("{} tensors are given, the signature has {}", views_.size(), types_.size());
      return;
    }
    for (size_t i = 0; i < types_.size(); ++i) {
      const TensorView& view = views_[i];
      if (view.dtype != types_[i].dtype)
        complain(i, fmt::format("dtype is {}, expected {}", to_string(view.dtype), to_string(types_[i].dtype)));
      if (view.rank != types_[i].rank()) {
        complain(i, fmt::format("rank is {}, expected {} for {}", view.rank, types_[i].rank(), to_string(types_[i])));
        continue;
      }
      for (int axis = 0; axis < view.rank; ++axis)
        if (view.shape[static_cast<size_t>(axis)] < 0)
          complain(i, fmt::format("axis {} has the negative size {}", axis, view.shape[static_cast<size_t>(axis)]));
    }
  }

  bool solve_some() {
    bool progress = false;
    for (size_t i = 0; i < types_.size(); ++i)
      for (size_t axis = 0; axis < types_[i].shape.size(); ++axis) progress |= solve(i, axis);
    return progress;
  }

  bool solve(size_t i, size_t axis) {
    const Dim& dim = types_[i].shape[axis];
    const auto* open = only_open_term(dim, bound_);
    if (!open) return false;
    const auto& [name, coefficient] = *open;
    const auto known = (dim - Dim::named(name, coefficient)).evaluate(bound_);
    const int64_t size = views_[i].shape[axis];
    int64_t rest = 0;
    if (!known || __builtin_sub_overflow(size, *known, &rest)) return false;
    if (rest % coefficient != 0 || rest / coefficient < 0) {
      complain(i, fmt::format("axis {} has size {}, which no size of {} makes equal to {}{}", axis, size, name,
                              to_string(dim), given(dim)));
      return false;
    }
    bound_[name] = rest / coefficient;
    origin_[name] = {names_[i], axis};
    return true;
  }

  void check_dims() {
    for (size_t i = 0; i < types_.size(); ++i)
      for (size_t axis = 0; axis < types_[i].shape.size(); ++axis) {
        const Dim& dim = types_[i].shape[axis];
        const auto expected = dim.evaluate(bound_);
        const int64_t size = views_[i].shape[axis];
        if (!expected) {
          complain(i, fmt::format("axis {} is {}, whose names no parameter's size determines", axis, to_string(dim)));
        } else if (*expected != size) {
          complain(i, fmt::format("axis {} has size {}, expected {}{}{}", axis, size, to_string(dim),
                                  dim.is_constant() ? "" : fmt::format(" = {}", *expected), given(dim)));
        }
      }
  }

  /// " (Sq = 8 from axis 2 of %q)" for the bound names of `dim`.
  std::string given(const Dim& dim) const {
    std::string text;
    for (const auto& [name, coefficient] : dim.terms()) {
      const auto origin = origin_.find(name);
      if (origin == origin_.end()) continue;
      text += fmt::format("{}{} = {} from axis {} of %{}", text.empty() ? " (" : ", ", name, bound_.at(name),
                          origin->second.axis, origin->second.parameter);
    }
    return text.empty() ? text : text + ")";
  }

  void complain(size_t i, const std::string& what) { errors_.add({ErrorKind::invalid, what, names_[i], 0}); }

  std::span<const TensorType> types_;
  std::span<const std::string> names_;
  std::span<const TensorView> views_;
  DimBindings bound_;
  std::map<std::string, Origin, std::less<>> origin_;
  Diagnostics errors_;
};

}  // namespace

Result<DimBindings> bind_dims(std::span<const TensorType> types, std::span<const std::string> names,
                              std::span<const TensorView> views) {
  return Binder(types, names, views).bind();
}

}  // namespace tilewright
