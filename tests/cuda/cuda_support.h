// What tests of GPU code need of the machine; where it is missing they are skipped, by name.
#pragma once

#include <gtest/gtest.h>

#include "runtime/cuda/nvrtc.h"

#define TILEWRIGHT_NEEDS_NVRTC() \
  if (!::tilewright::nvrtc()) GTEST_SKIP() << to_string(::tilewright::nvrtc().error())
