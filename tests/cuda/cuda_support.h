// What tests of GPU code need of the machine (where it is missing they are skipped, by name), and how sentences are
// read.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "runtime/cuda/nvrtc.h"

#define TILEWRIGHT_NEEDS_NVRTC() \
  if (!::tilewright::nvrtc()) GTEST_SKIP() << to_string(::tilewright::nvrtc().error())

namespace tilewright::testing {

inline void expect_parts(const std::string& sentence, std::initializer_list<const char*> parts) {
  for (const char* part : parts) EXPECT_NE(sentence.find(part), std::string::npos) << sentence;
  EXPECT_EQ(sentence.find('\n'), std::string::npos) << sentence;
}

}  // namespace tilewright::testing
