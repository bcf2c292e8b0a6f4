#include "cli/cli.h"

int main(int argc, char** argv) {
  using namespace tilewright::cli;
  CLI::App app("Compiles attention graphs into flash kernels for this CPU, runs and measures them.", "tilewright");
  app.require_subcommand(1);
  int exit_code = kOk;
  for (const auto add : {add_verify, add_fuse, add_emit, add_run, add_bench, add_devices, add_demo})
    add(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    app.exit(error);
    return kBadInput;
  }
  return exit_code;
}
