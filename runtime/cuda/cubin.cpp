#include "runtime/cuda/cubin.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <optional>

namespace tilewright {
namespace {

/// An instruction is 16 bytes; its opcode are the lowest 12 bits, of which the upper three say how operands are held.
/// The same on every architecture from sm_80 to sm_120 (tests/cuda compares with nvdisasm where that is found).
constexpr int kInstructionBytes = 16;
constexpr uint64_t kOpcodeMask = 0x1ff;
struct Opcode {
  uint16_t bits;
  uint8_t name;  ///< into kNames
};
constexpr std::string_view kNames[] = {"HGMMA",   "HMMA",    "DMMA",   "IMMA", "LDSM",      "STSM",       "LDGSTS",
                                       "UTMALDG", "UTMASTG", "UBLKCP", "LDG",  "STG",       "LDS",        "STS",
                                       "LDL",     "STL",     "LD",     "ST",   "ATOMG",     "RED",        "SHFL",
                                       "MUFU",    "DFMA",    "SYNCS",  "BAR",  "WARPGROUP", "USETMAXREG", "CALL"};
constexpr Opcode kOpcodes[] = {
    {0x1f0, 0},  {0x03c, 1},  {0x03f, 2},  {0x037, 3},  {0x03b, 4},  {0x044, 5},  {0x1ae, 6},  {0x1b4, 7},
    {0x1b5, 8},  {0x1ba, 9},  {0x181, 10}, {0x186, 11}, {0x184, 12}, {0x188, 13}, {0x183, 14}, {0x187, 15},
    {0x180, 16}, {0x185, 17}, {0x1a3, 18}, {0x1a8, 18}, {0x1a9, 18}, {0x18e, 19}, {0x189, 20}, {0x108, 21},
    {0x02b, 22}, {0x1a7, 23}, {0x1b2, 23}, {0x11d, 24}, {0x1c5, 25}, {0x1c8, 26}, {0x143, 27}, {0x144, 27}};

/// Attributes of .nv.info sections that are read here.
enum : uint8_t { kFrameSize = 0x11, kParameterSize = 0x19, kRegisters = 0x2f, kBarriers = 0x4c };
/// What an attribute carries: a byte or half word in place, or a length and that many bytes.
enum : uint8_t { kFormatSized = 4 };
/// Of shared memory the driver keeps this much per block; files for sm_90 and newer count it in.
constexpr int64_t kReservedShared = 1024;

/// Bounds-checked reads of a file that may be anything.
class ElfFile {
 public:
  static std::optional<ElfFile> open(std::string_view bytes) {
    ElfFile file(bytes);
    const auto header = file.at<Elf64_Ehdr>(0);
    if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_ident[EI_CLASS] != ELFCLASS64 ||
        header->e_machine != EM_CUDA || header->e_shentsize != sizeof(Elf64_Shdr))
      return std::nullopt;
    for (unsigned i = 0; i < header->e_shnum; ++i) {
      const auto section = file.at<Elf64_Shdr>(header->e_shoff + i * sizeof(Elf64_Shdr));
      if (!section) return std::nullopt;
      file.sections_.push_back(*section);
    }
    if (header->e_shstrndx >= file.sections_.size()) return std::nullopt;
    file.names_ = header->e_shstrndx;
    return file;
  }

  size_t sections() const { return sections_.size(); }
  const Elf64_Shdr& section(size_t i) const { return sections_[i]; }
  std::string_view name(size_t i) const { return string(names_, sections_[i].sh_name); }
  std::string_view content(size_t i) const {
    const Elf64_Shdr& section = sections_[i];
    if (section.sh_type == SHT_NOBITS || section.sh_offset > bytes_.size() ||
        section.sh_size > bytes_.size() - section.sh_offset)
      return {};
    return bytes_.substr(section.sh_offset, section.sh_size);
  }
  std::optional<size_t> find(std::string_view wanted) const {
    for (size_t i = 0; i < sections_.size(); ++i)
      if (name(i) == wanted) return i;
    return std::nullopt;
  }
  /// Name of a symbol of .symtab; "" when there is none.
  std::string_view symbol(uint32_t index) const {
    const auto table = find(".symtab");
    if (!table || sections_[*table].sh_link >= sections_.size()) return {};
    const std::string_view symbols = content(*table);
    if (index >= symbols.size() / sizeof(Elf64_Sym)) return {};
    Elf64_Sym found;
    std::memcpy(&found, symbols.data() + index * sizeof found, sizeof found);
    return string(sections_[*table].sh_link, found.st_name);
  }

 private:
  explicit ElfFile(std::string_view bytes) : bytes_(bytes) {}
  template <class T>
  std::optional<T> at(uint64_t offset) const {
    if (offset > bytes_.size() || bytes_.size() - offset < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }
  std::string_view string(size_t section, uint64_t offset) const {
    const std::string_view strings = content(section);
    if (offset >= strings.size()) return {};
    return strings.substr(offset, strings.find('\0', offset) - offset);
  }
  std::string_view bytes_;
  std::vector<Elf64_Shdr> sections_;
  size_t names_ = 0;
};

/// Calls `take(attribute, words, value)` for each entry of an .nv.info section; `value` is of the short forms.
template <class Take>
void for_each_attribute(std::string_view info, const Take& take) {
  for (size_t at = 0; at + 4 <= info.size();) {
    const auto format = static_cast<uint8_t>(info[at]), attribute = static_cast<uint8_t>(info[at + 1]);
    uint16_t value = 0;
    std::memcpy(&value, info.data() + at + 2, sizeof value);
    at += 4;
    std::vector<uint32_t> words;
    if (format == kFormatSized) {
      if (value > info.size() - at) return;
      words.resize(value / sizeof(uint32_t));
      if (!words.empty()) std::memcpy(words.data(), info.data() + at, words.size() * sizeof(uint32_t));
      at += value;
    }
    take(attribute, words, value);
  }
}

void count_opcodes(std::string_view code, KernelFacts& facts) {
  int64_t counts[std::size(kNames)] = {};
  for (size_t at = 0; at + kInstructionBytes <= code.size(); at += kInstructionBytes) {
    uint64_t word = 0;
    std::memcpy(&word, code.data() + at, sizeof word);
    for (const Opcode& opcode : kOpcodes)
      if ((word & kOpcodeMask) == opcode.bits) ++counts[opcode.name];
  }
  facts.instructions = static_cast<int64_t>(code.size()) / kInstructionBytes;
  for (size_t i = 0; i < std::size(kNames); ++i)
    if (counts[i] > 0) facts.census.push_back({kNames[i], counts[i]});
}

}  // namespace

std::span<const std::string_view> counted_opcodes() { return kNames; }

int64_t KernelFacts::count(std::string_view opcode) const {
  for (const OpcodeCount& entry : census)
    if (entry.name == opcode) return entry.count;
  return 0;
}

Result<std::vector<KernelFacts>> read_cubin(std::string_view cubin) {
  const auto file = ElfFile::open(cubin);
  if (!file) return invalid("{} bytes that should be a cubin are no ELF file for CUDA", cubin.size());
  const bool counts_reserved = file->find(".nv.shared.reserved.0").has_value();
  constexpr std::string_view kText = ".text.";
  std::vector<KernelFacts> kernels;
  for (size_t i = 0; i < file->sections(); ++i) {
    if (!file->name(i).starts_with(kText)) continue;
    KernelFacts facts;
    facts.symbol = file->name(i).substr(kText.size());
    count_opcodes(file->content(i), facts);
    if (const auto shared = file->find(".nv.shared." + facts.symbol))
      facts.static_shared = std::max<int64_t>(
          0, static_cast<int64_t>(file->section(*shared).sh_size) - (counts_reserved ? kReservedShared : 0));
    if (const auto info = file->find(".nv.info." + facts.symbol))
      for_each_attribute(file->content(*info), [&](uint8_t attribute, const std::vector<uint32_t>&, uint16_t value) {
        if (attribute == kParameterSize) facts.parameter_bytes = value;
        if (attribute == kBarriers) facts.barriers = value & 0xff;
      });
    kernels.push_back(std::move(facts));
  }
  if (const auto info = file->find(".nv.info"))
    for_each_attribute(file->content(*info), [&](uint8_t attribute, const std::vector<uint32_t>& words, uint16_t) {
      if (words.size() < 2) return;
      for (KernelFacts& facts : kernels) {
        if (file->symbol(words[0]) != facts.symbol) continue;
        if (attribute == kRegisters) facts.registers = words[1];
        if (attribute == kFrameSize) facts.local_bytes = words[1];
      }
    });
  if (kernels.empty()) return invalid("the cubin of {} bytes holds no kernel", cubin.size());
  return kernels;
}

std::string print_census(const KernelFacts& facts) {
  std::string text;
  for (const OpcodeCount& entry : facts.census)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", entry.name, entry.count);
  return text;
}

}  // namespace tilewright
