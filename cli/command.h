// Command: one subcommand and its options, declared next to the code that runs it. CLI11 is compiled in command.cpp
// alone; it costs five seconds wherever it is used.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace tilewright::cli {

class Command {
 public:
  /// Parsing stores the text of an option in the variable given for it, which must live until the command has run.
  void required(const std::string& name, std::string& value, const std::string& help);  ///< positional
  void files(const std::string& name, std::vector<std::string>& values,
             const std::string& help);  ///< positional, any number
  void option(const std::string& name, std::string& value, const std::string& help);
  void option(const std::string& name, std::vector<std::string>& values, const std::string& help);  ///< repeatable
  void list(const std::string& name, std::vector<std::string>& values, const std::string& help);    ///< a,b,c
  void option(const std::string& name, int& value, const std::string& help);
  void option(const std::string& name, int64_t& value, const std::string& help);
  void option(const std::string& name, uint64_t& value, const std::string& help);
  void option(const std::string& name, double& value, const std::string& help);
  void flag(const std::string& name, bool& value, const std::string& help);
  /// What the command does; returns the exit code.
  void action(std::function<int()> run);

 private:
  friend class CommandLine;
  Command(CLI::App& app, int& exit_code) : app_(app), exit_code_(exit_code) {}
  CLI::App& app_;
  int& exit_code_;
};

class CommandLine {
 public:
  CommandLine(const std::string& name, const std::string& help);
  CommandLine(const CommandLine&) = delete;
  Command add(const std::string& name, const std::string& help);
  /// Parses, runs the command that was asked for and returns its exit code; help and complaints are printed.
  int run(int argc, const char* const* argv);

 private:
  std::shared_ptr<CLI::App> app_;
  int exit_code_ = 0;
};

}  // namespace tilewright::cli
