// Planted faults: a change of a device file that makes a kernel wrong, and the proof that some execution shows it.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "emulator/module.h"
#include "tests/emulator/spec_launch.h"
#include "tests/support/attention_case.h"

namespace tilewright::testing {

struct Fault {
  std::string_view name;           ///< what is wrong, in words
  std::string_view file;           ///< of codegen/cuda/device
  std::string_view find, replace;  ///< the first occurrence in it is replaced
  std::string_view in;             ///< the case that shows it
};

/// The source with the fault in it. A fault that no longer fits its file is a failure.
inline CudaSource plant(CudaSource source, const Fault& fault) {
  const std::string_view file = device_file(fault.file);
  for (std::string& part : source.parts) {
    const size_t begin = part.find(file);
    if (begin == std::string::npos) continue;
    const size_t at = part.find(fault.find, begin);
    if (at == std::string::npos || at > begin + file.size()) break;
    part.replace(at, fault.find.size(), fault.replace);
    return source;
  }
  ADD_FAILURE() << "the fault \"" << fault.name << "\" is not to be planted: " << fault.file << " has no \""
                << fault.find << "\"";
  return source;
}

/// One step's kernels with data, and who judges what they write.
struct FaultSubject {
  Result<CudaSource> source;
  ArgsLayout layout;
  DimBindings dims;
  std::vector<SpecTensor> names;  ///< of the tensors
  std::vector<TestTensor> tensors;
  std::function<void(const std::vector<TestTensor>&)> check;  ///< of a clean run
  bool adds = false;                                          ///< outputs start as zeros; else they are poisoned
};

/// An attention of a forward template.
inline FaultSubject subject(AttentionCase test, const CudaSchedule& schedule, const CudaTarget& target) {
  auto source = generate_cuda(build_tile_program(test.spec), schedule, target, "k");
  const auto check = [test](const std::vector<TestTensor>& tensors) {
    AttentionCase done = test;
    done.tensors = tensors;
    check_case(done, done.options.dtype);
  };
  return {std::move(source), args_layout(test.spec), test.dims, test.spec.tensors, test.tensors, check};
}

/// A subject, its outputs in the clean form, and the executions that are tried.
class FaultCase {
 public:
  FaultCase(FaultSubject given, std::vector<EmulatorOptions> executions)
      : subject_(std::move(given)), executions_(std::move(executions)) {
    if (!subject_.source) {
      ADD_FAILURE() << to_string(subject_.source.error());
      return;
    }
    const auto module = EmulatedModule::build(*subject_.source);
    if (!module) {
      ADD_FAILURE() << to_string(module.error());
      return;
    }
    for (const EmulatorOptions& options : executions_) {
      EXPECT_EQ(run(*module, options), "") << "a false alarm";
      if (clean_.empty()) clean_ = outputs();
      EXPECT_TRUE(same()) << "clean executions differ";
    }
    subject_.check(subject_.tensors);
  }

  /// What the first execution that shows the fault says; empty when none does.
  std::string caught(const Fault& fault) {
    const auto module = EmulatedModule::build(plant(*subject_.source, fault));
    if (!module) {
      ADD_FAILURE() << fault.name << " does not compile: " << to_string(module.error());
      return {};
    }
    for (const EmulatorOptions& options : executions_) {
      if (std::string sentence = run(*module, options); !sentence.empty()) return sentence;
      if (!same()) return "wrong outputs";
    }
    return {};
  }

 private:
  std::string run(const EmulatedModule& module, const EmulatorOptions& options) {
    for (size_t i = 0; i < subject_.tensors.size(); ++i) {
      if (!subject_.names[i].output) continue;
      TestTensor& output = subject_.tensors[i];
      output.poison();
      for (int64_t at = 0; subject_.adds && at < output.size(); ++at) output.set(at, 0);
    }
    return launch_all(module, subject_.source->launch, subject_.layout, subject_.dims, views_of(subject_.tensors),
                      options);
  }

  struct Value {
    double value, tolerance;
  };
  /// Tolerances are far beyond rounding, so that what differs is wrong by rule 19, too.
  std::vector<Value> outputs() const {
    std::vector<Value> all;
    for (size_t i = 0; i < subject_.tensors.size(); ++i) {
      const TestTensor& tensor = subject_.tensors[i];
      const double tolerance = subject_.names[i].type.dtype == DType::f32 ? 0.002 : 0.02;
      for (int64_t at = 0; subject_.names[i].output && at < tensor.size(); ++at)
        all.push_back({tensor.get(at), tolerance});
    }
    return all;
  }

  bool same() const {
    const std::vector<Value> now = outputs();
    for (size_t i = 0; i < now.size(); ++i) {
      const auto& [want, tolerance] = clean_[i];
      const double got = now[i].value;
      if (std::isnan(want) ? !std::isnan(got) : got != want && !(std::abs(got - want) < tolerance)) return false;
    }
    return true;
  }

  FaultSubject subject_;
  std::vector<EmulatorOptions> executions_;
  std::vector<Value> clean_;
};

/// Every fault that is planted in this case shows in some execution; the test's properties say how.
inline void expect_all_caught(FaultCase& clean, std::span<const Fault> faults, std::string_view in) {
  int planted = 0;
  for (const Fault& fault : faults) {
    if (fault.in != in) continue;
    ++planted;
    const std::string sentence = clean.caught(fault);
    EXPECT_NE(sentence, "") << "not caught: " << fault.name;
    ::testing::Test::RecordProperty(fmt::format("fault_{}", planted), fmt::format("{}: {}", fault.name, sentence));
  }
  EXPECT_GE(planted, 1);
}

}  // namespace tilewright::testing
