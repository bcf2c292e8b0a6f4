#pragma once

#include <string>

namespace tilewright::testing {

/// The repository's root, without a slash at the end. Known to one file only, so that all others compile to the same
/// bytes wherever a clone lies.
std::string source_dir();

/// The command-line tool of this build.
std::string cli_path();

}  // namespace tilewright::testing
