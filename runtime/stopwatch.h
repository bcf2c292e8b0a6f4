// Wall-clock times of named stages.
#pragma once

#include <chrono>
#include <string>

#include "runtime/engine.h"

namespace tilewright {

class Stopwatch {
 public:
  double milliseconds() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count();
  }
  /// Adds the time since the last lap (or the start) to the stage of that name.
  void lap(std::vector<StageTime>& stages, const std::string& name) {
    const auto now = std::chrono::steady_clock::now();
    add(stages, name, std::chrono::duration<double, std::milli>(now - last_).count());
    last_ = now;
  }
  static void add(std::vector<StageTime>& stages, const std::string& name, double milliseconds) {
    for (StageTime& stage : stages) {
      if (stage.stage != name) continue;
      stage.milliseconds += milliseconds;
      return;
    }
    stages.push_back({name, milliseconds});
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now(), last_ = start_;
};

}  // namespace tilewright
