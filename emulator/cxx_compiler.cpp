#include "emulator/cxx_compiler.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

extern char** environ;

namespace tilewright {
namespace {

namespace fs = std::filesystem;

/// A folder of this run that vanishes with all that is in it.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::error_code error;
    std::string name = (fs::temp_directory_path(error) / "tilewright-XXXXXX").string();
    if (!error && mkdtemp(name.data())) path_ = name;
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() {
    std::error_code error;
    if (!path_.empty()) fs::remove_all(path_, error);
  }
  bool usable() const { return !path_.empty(); }
  std::string operator/(const char* name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

std::string read_file(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return std::move(text).str();
}

/// Runs a program with stdout and stderr in a file. Gives its exit code, 127 when it could not be started.
int run_program(const std::vector<std::string>& command, const std::string& output_file) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return 127;
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return 127;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

/// The line that says what is wrong, else the first.
std::string complaint_in(const std::string& log) {
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);)
    if (line.find("error") != std::string::npos) return line;
  return first_line(log);
}

}  // namespace

Result<CxxCompiler> CxxCompiler::find(const std::string& command) {
  const ScratchFolder scratch;
  if (!scratch.usable())
    return Diagnostic{ErrorKind::io, "no temporary folder can be made for compiling kernels", {}, 0};
  std::vector<std::string> candidates = {"clang++-19", "c++", "g++", "clang++"};
  if (!command.empty()) candidates = {command};
  for (const std::string& candidate : candidates) {
    CxxCompiler compiler;
    std::istringstream words(candidate);
    for (std::string word; words >> word;) compiler.command_.push_back(word);
    if (compiler.command_.empty()) continue;
    std::vector<std::string> ask = compiler.command_;
    ask.emplace_back("--version");
    if (run_program(ask, scratch / "version") != 0) continue;
    compiler.description_ = candidate + ": " + first_line(read_file(scratch / "version"));
    return compiler;
  }
  if (!command.empty())
    return unsupported(
        "CXX is '{}', which does not run; set it to a C++ compiler, which the emulator builds kernels with", command);
  return unsupported(
      "no C++ compiler runs here (clang++-19, c++, g++ and clang++ were tried); install one or set CXX, for the "
      "emulator "
      "builds kernels with it");
}

Result<std::string> CxxCompiler::build(const std::string& text, const std::vector<std::string>& flags) const {
  const ScratchFolder scratch;
  if (!scratch.usable())
    return Diagnostic{ErrorKind::io, "no temporary folder can be made for compiling kernels", {}, 0};
  const std::string source = scratch / "kernel.cpp", object = scratch / "kernel.o", library = scratch / "kernel.so",
                    log = scratch / "log";
  if (!(std::ofstream(source, std::ios::binary) << text).flush())
    return Diagnostic{ErrorKind::io, fmt::format("the kernel's text could not be written to {}", source), {}, 0};
  // In two steps: a compiler that is told of sanitizers would link their libraries, too. Functions of the C library
  // are those of this process.
  std::vector<std::string> compile = command_, link = command_;
  compile.insert(compile.end(), flags.begin(), flags.end());
  for (const std::string& word : {std::string("-fPIC"), std::string("-c"), std::string("-o"), object, source})
    compile.push_back(word);
  for (const std::string& word : {std::string("-shared"), std::string("-nostdlib"), std::string("-Wl,-Bsymbolic"),
                                  std::string("-o"), library, object})
    link.push_back(word);
  for (const std::vector<std::string>& command : {compile, link})
    if (const int code = run_program(command, log); code != 0)
      return invalid("{} refuses the kernel's text with exit code {}: {}", command_.front(), code,
                     complaint_in(read_file(log)));
  return read_file(library);
}

}  // namespace tilewright
