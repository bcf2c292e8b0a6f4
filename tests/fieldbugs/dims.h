// The dims that the graphs of these tests share.
#pragma once

#include "ir/shape.h"

namespace tilewright::testing {

inline const Dim kB = Dim::named("B"), kSq = Dim::named("Sq"), kSk = Dim::named("Sk");

}  // namespace tilewright::testing
