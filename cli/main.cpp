#include "cli/cli.h"

int main(int argc, char** argv) {
  using namespace tilewright::cli;
  CommandLine line("tilewright", "Compiles attention graphs into flash kernels for this CPU, runs and measures them.");
  for (const auto add :
       {add_verify, add_fuse, add_gradient, add_emit, add_run, add_bench, add_devices, add_demo, add_cache, add_tune})
    add(line);
  return line.run(argc, argv);
}
