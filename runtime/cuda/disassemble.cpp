#include "runtime/cuda/disassemble.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "runtime/options.h"

extern char** environ;

namespace tilewright {
namespace {

namespace fs = std::filesystem;

/// A folder of its own under the temporary one, which goes with the object.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::error_code error;
    path_ = (fs::temp_directory_path(error) / "tilewright.XXXXXX").string();
    made_ = !error && mkdtemp(path_.data()) != nullptr;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    if (made_) fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  bool made() const { return made_; }
  std::string file(const char* name) const { return path_ + "/" + name; }

 private:
  std::string path_;
  bool made_ = false;
};

/// Its exit code, output in `out`; -1 when it could not be started.
int run(const std::string& program, const std::string& cubin, const std::string& out) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  std::string name = program, flag = "-c", input = cubin;
  char* const arguments[] = {name.data(), flag.data(), input.data(), nullptr};
  pid_t child = 0;
  const int failed = posix_spawnp(&child, name.c_str(), &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (failed != 0 || waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

}  // namespace

Result<std::string> disassemble_cubin(std::string_view cubin) {
  const ScratchFolder folder;
  if (!folder.made()) return Diagnostic{ErrorKind::io, "no temporary folder can be made", {}, 0};
  const std::string input = folder.file("kernel.cubin"), output = folder.file("kernel.sass");
  std::ofstream(input, std::ios::binary) << cubin;
  const std::string& home = environment().cuda_home;
  for (const std::string& program :
       {std::string("nvdisasm"), home + "/bin/nvdisasm", std::string("/usr/local/cuda/bin/nvdisasm")}) {
    const int code = run(program, input, output);
    if (code < 0 || code == 127) continue;
    if (code != 0) return unsupported("{} ends with code {} on this cubin: it may be older than NVRTC", program, code);
    std::ostringstream text;
    text << std::ifstream(output).rdbuf();
    return text.str();
  }
  return unsupported("nvdisasm is not on PATH, so that there is no SASS: install cuda-nvdisasm");
}

}  // namespace tilewright
