#include "cli/command.h"

#include <CLI/CLI.hpp>

#include "cli/cli.h"

namespace tilewright::cli {

void Command::required(const std::string& name, std::string& value, const std::string& help) {
  app_.add_option(name, value, help)->required();
}

void Command::files(const std::string& name, std::vector<std::string>& values, const std::string& help) {
  app_.add_option(name, values, help);
}

void Command::option(const std::string& name, std::string& value, const std::string& help) {
  app_.add_option(name, value, help);
}

void Command::option(const std::string& name, std::vector<std::string>& values, const std::string& help) {
  app_.add_option(name, values, help)->allow_extra_args(false);
}

void Command::list(const std::string& name, std::vector<std::string>& values, const std::string& help) {
  app_.add_option(name, values, help)->delimiter(',');
}

void Command::option(const std::string& name, int& value, const std::string& help) {
  app_.add_option(name, value, help);
}

void Command::option(const std::string& name, int64_t& value, const std::string& help) {
  app_.add_option(name, value, help);
}

void Command::option(const std::string& name, uint64_t& value, const std::string& help) {
  app_.add_option(name, value, help);
}

void Command::option(const std::string& name, double& value, const std::string& help) {
  app_.add_option(name, value, help);
}

void Command::flag(const std::string& name, bool& value, const std::string& help) { app_.add_flag(name, value, help); }

void Command::action(std::function<int()> run) {
  app_.callback([run = std::move(run), &exit_code = exit_code_] { exit_code = run(); });
}

CommandLine::CommandLine(const std::string& name, const std::string& help)
    : app_(std::make_shared<CLI::App>(help, name)) {
  app_->require_subcommand(1);
}

Command CommandLine::add(const std::string& name, const std::string& help) {
  return Command(*app_->add_subcommand(name, help), exit_code_);
}

int CommandLine::run(int argc, const char* const* argv) {
  try {
    app_->parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app_->exit(help);
  } catch (const CLI::ParseError& error) {
    app_->exit(error);
    return kBadInput;
  }
  return exit_code_;
}

}  // namespace tilewright::cli
