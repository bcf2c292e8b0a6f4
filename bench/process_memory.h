// Memory of this process that is really in use, from the kernel's own books (Linux).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

namespace tilewright::bench {

/// By how many bytes the process's resident memory rises at most while `task` runs; nullopt where the kernel does not
/// say. Pages that nobody has touched before count when they are touched, pages that are there do not.
std::optional<int64_t> peak_rise(const std::function<void()>& task);

}  // namespace tilewright::bench
