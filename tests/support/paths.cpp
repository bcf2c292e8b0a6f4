#include "tests/support/paths.h"

namespace tilewright::testing {

std::string source_dir() { return TILEWRIGHT_SOURCE_DIR; }

std::string cli_path() { return TILEWRIGHT_CLI; }

}  // namespace tilewright::testing
