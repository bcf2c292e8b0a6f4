#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "cli/tune_report.h"

namespace tilewright::cli {
namespace {

Diagnostic cannot_write(const std::string& path, int error) {
  return {ErrorKind::io, fmt::format("cannot write the report to {}: {}", path, std::strerror(error)), {}, 0};
}

/// A new file beside `path`, or `path` itself where that is no file that a rename could replace (a pipe, /dev/stdout).
struct Target {
  int descriptor = -1;
  std::string name;
  bool renamed = false;
};

Result<Target> open_target(const std::string& path) {
  struct stat status{};
  const bool exists = ::stat(path.c_str(), &status) == 0;
  if (exists && S_ISDIR(status.st_mode)) return cannot_write(path, EISDIR);
  if (exists && !S_ISREG(status.st_mode)) {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor < 0) return cannot_write(path, errno);
    return Target{descriptor, path, false};
  }
  if (exists && ::access(path.c_str(), W_OK) != 0) return cannot_write(path, errno);
  // A report behind a symbolic link is written where the link points to.
  std::error_code ignored;
  const std::string real = exists ? std::filesystem::canonical(path, ignored).string() : path;
  std::string name = (ignored ? path : real) + ".XXXXXX";
  const int descriptor = ::mkstemp(name.data());
  if (descriptor < 0) return cannot_write(path, errno);
  return Target{descriptor, name, true};
}

}  // namespace

Result<Done> check_report_path(const std::string& path) {
  const auto target = open_target(path);
  if (!target) return target.error();
  ::close(target->descriptor);
  if (target->renamed) ::unlink(target->name.c_str());
  return Done{};
}

Result<Done> write_report(const std::string& path, const std::string& html) {
  const auto target = open_target(path);
  if (!target) return target.error();
  int error = 0;
  for (size_t done = 0; done < html.size() && error == 0;) {
    const ssize_t count = ::write(target->descriptor, html.data() + done, html.size() - done);
    if (count > 0) done += static_cast<size_t>(count);
    if (count < 0 && errno != EINTR) error = errno;
  }
  if (target->renamed && ::fchmod(target->descriptor, 0644) != 0 && error == 0) error = errno;
  if (::close(target->descriptor) != 0 && error == 0) error = errno;
  if (!target->renamed) return error ? Result<Done>(cannot_write(path, error)) : Done{};
  const std::string place = target->name.substr(0, target->name.size() - 7);  // without ".XXXXXX"
  if (error == 0 && ::rename(target->name.c_str(), place.c_str()) != 0) error = errno;
  if (error != 0) {
    ::unlink(target->name.c_str());
    return cannot_write(path, error);
  }
  return Done{};
}

}  // namespace tilewright::cli
