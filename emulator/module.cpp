#include "emulator/module.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <numeric>
#include <random>

#include "codegen/cuda/device_files.h"
#include "emulator/block.h"
#include "emulator/cxx_compiler.h"
#include "emulator/emulated_device_files.h"
#include "runtime/disk_cache.h"

namespace tilewright {

struct EmulatedModule::Code {
  int file = -1;  ///< in memory; open while it is loaded, for the loader knows objects by their path
  void* handle = nullptr;
  std::mutex one_launch;

  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() {
    if (handle) dlclose(handle);
    if (file >= 0) close(file);
  }
};

namespace {

std::string_view emulated_file(std::string_view name) {
  for (const DeviceFile& file : emulated_device_files())
    if (file.name == name) return file.text;
  TW_CHECK(!"an emulated device file is missing");
  return {};
}

/// Fast to build: kernels are compiled as often as they are run, and fibers and collectives take most of a run anyway
/// (-O1 makes small runs no faster and compiles four times as long).
std::vector<std::string> flags(const CxxCompiler& compiler, const EmulatedBuildOptions& options) {
  std::vector<std::string> all = {"-std=c++17",
                                  "-O0",
                                  "-w",
                                  "-march=x86-64-v3",
                                  "-ffp-contract=off",
                                  "-fno-strict-aliasing",
                                  "-fno-exceptions",
                                  "-fno-rtti",
                                  "-fno-math-errno",
                                  "-fvisibility=hidden"};
  if (!options.checked) return all;
  const auto add = [&](std::initializer_list<const char*> more) { all.insert(all.end(), more.begin(), more.end()); };
  add(
      {"-fsanitize=alignment,bounds,integer-divide-by-zero,null,return,shift,signed-integer-overflow,unreachable,"
       "thread",
       "-fno-sanitize-recover=all"});
  // Arrays at the end of a struct have bounds, too.
  if (compiler.is_clang())
    // A read before a write of the same place would else be left out, and crash where the write is not allowed.
    add({"-mllvm", "-tsan-instrument-func-entry-exit=0", "-mllvm", "-tsan-instrument-read-before-write=1",
         "-fstrict-flex-arrays=3"});
  else
    add({"-fsanitize=bounds-strict"});
  return all;
}

}  // namespace

std::string emulator_text(const CudaSource& source, const EmulatedBuildOptions& options) {
  std::string text = "#define TW_EMULATED\n";
  text += device_file("types.cuh");
  text += emulated_file("interface.h");
  text += emulated_file("base.h");
  text += emulated_file("math.h");
  if (source.primitives >= CudaPrimitives::sm80) text += emulated_file("sm80.h");
  if (source.primitives >= CudaPrimitives::sm90) text += emulated_file("sm90.h");
  if (options.checked) text += emulated_file("checks.h");
  for (size_t i = 0; i < source.parts.size(); ++i) text += fmt::format("#line 1 \"part {}\"\n{}", i, source.parts[i]);
  for (const CudaPhase& phase : source.launch.phases) {
    std::string maps;
    for (size_t i = 0; i < phase.tensor_maps.size(); ++i)
      maps += fmt::format(", *static_cast<const TensorMap*>(p[{}])", i + 1);
    text += fmt::format(
        "\nextern \"C\" __attribute__((visibility(\"default\"), no_sanitize(\"thread\"))) void tw_run_{0}(void** p) {{ "
        "{0}(*static_cast<const Args*>(p[0]){1}); }}\n",
        phase.symbol, maps);
  }
  return text;
}

Result<EmulatedModule> EmulatedModule::build(const CudaSource& source, const EmulatedBuildOptions& options) {
  static const Result<CxxCompiler> standard = CxxCompiler::find(environment().cxx);
  const Result<CxxCompiler> compiler = options.cxx == environment().cxx ? standard : CxxCompiler::find(options.cxx);
  if (!compiler) return compiler.error();
  const std::string text = emulator_text(source, options);
  const std::vector<std::string> build_flags = flags(*compiler, options);
  std::string key = "emulated kernel\n" + compiler->description();
  for (const std::string& flag : build_flags) key += " " + flag;
  key += "\n" + text;
  const DiskCache cache = DiskCache::open(options.cache_dir);
  std::string object;
  if (cache.usable())
    if (auto found = cache.find(key); found.payload) object = std::move(*found.payload);
  if (object.empty()) {
    auto built = compiler->build(text, build_flags);
    if (!built) return built.error();
    object = std::move(*built);
    if (cache.usable()) cache.store(key, object);
  }

  EmulatedModule module;
  module.code_ = std::make_shared<Code>();
  Code& code = *module.code_;
  code.file = memfd_create("tilewright-kernel", MFD_CLOEXEC);
  if (code.file < 0 || write(code.file, object.data(), object.size()) != static_cast<ssize_t>(object.size()))
    return Diagnostic{ErrorKind::io, "a built kernel could not be written to memory", {}, 0};
  code.handle = dlopen(fmt::format("/proc/self/fd/{}", code.file).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!code.handle)
    return Diagnostic{ErrorKind::io, fmt::format("a built kernel could not be loaded: {}", dlerror()), {}, 0};
  return module;
}

Result<EmulatorStatistics> EmulatedModule::launch(const EmulatedLaunch& launch, const EmulatorOptions& options) const {
  constexpr int64_t kMaxShared = int64_t{227} << 10;
  if (launch.threads <= 0 || launch.threads > 1024 || launch.threads % 32 != 0)
    return invalid("a block of {} threads; it takes a multiple of 32 up to 1024", launch.threads);
  if (launch.blocks < 0 || launch.blocks > INT32_MAX)
    return invalid("a grid of {} blocks; it takes 0 to 2147483647", launch.blocks);
  if (launch.shared_bytes < 0 || launch.shared_bytes > kMaxShared)
    return invalid("{} bytes of shared memory; a block has at most {}", launch.shared_bytes, kMaxShared);
  auto* kernel = reinterpret_cast<void (*)(void**)>(dlsym(code_->handle, ("tw_run_" + launch.symbol).c_str()));
  if (!kernel) return invalid("the module has no kernel '{}'", launch.symbol);
  auto* bind = reinterpret_cast<void (*)(EmulatorInterface*)>(dlsym(code_->handle, "tw_bind_emulator"));
  TW_CHECK(bind != nullptr);

  std::vector<uint64_t> args(launch.args.begin(), launch.args.end());
  std::vector<EmulatedTensorMap> maps(launch.tensor_maps.begin(), launch.tensor_maps.end());
  std::vector<void*> arguments = {args.data()};
  for (EmulatedTensorMap& map : maps) arguments.push_back(&map);

  EmulatorStatistics statistics;
  if (launch.blocks == 0) return statistics;
  FiberStacks stacks;
  if (!stacks.reserve(static_cast<size_t>(launch.threads)))
    return Diagnostic{ErrorKind::io, fmt::format("no memory for the stacks of {} threads", launch.threads), {}, 0};
  // Blocks run one after another, in any order that the hardware might choose.
  std::vector<int64_t> order(static_cast<size_t>(launch.blocks));
  std::iota(order.begin(), order.end(), 0);
  if (options.seed != 0) std::shuffle(order.begin(), order.end(), std::mt19937_64(options.seed));

  const std::lock_guard lock(code_->one_launch);
  EmulatedBlock block({launch.blocks, static_cast<int>(launch.threads), launch.shared_bytes,
                       static_cast<int>(launch.blocks_per_multiprocessor)},
                      options, statistics, stacks);
  bind(&block);
  for (const int64_t index : order)
    if (const std::string complaint = block.run(index, kernel, arguments.data()); !complaint.empty())
      return invalid("{}: {}", launch.symbol, complaint);
  return statistics;
}

}  // namespace tilewright
