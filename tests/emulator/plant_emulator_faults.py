#!/usr/bin/env python3
"""Plants faults in the emulator itself, one at a time, and asks whether the emulator's own tests notice.

usage: plant_emulator_faults.py BUILD [NAME_PART]      (./dev emulator-faults, and a test of ctest)

All faults go into one copy of the emulator's sources, each behind FAULT, which is true when TILEWRIGHT_PLANTED_FAULT
names it. The copies are compiled as BUILD compiles the sources, whole unity batches of them, and linked into BUILD's
test_emulator before the library: every object of the library that has a fault is replaced, a definition that is said
twice fails the link. Without a fault the tests of the emulator (not those of kernels) must pass, with each they must
fail. Nothing in the tree changes."""
import os
import re
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TESTS = "Misuse.*:Statistics.*:Threads.*:Tables/Primitive.*:Base.*:Sm80.*:Tma.*:Wgmma.*:Registers.*"

# What is wrong, the file of emulator/, the text, and what stands in its place.
FAULTS = [
    ("the race detector is off", "block.cpp", "if (options_.check_races && !race.empty())",
     "if (!FAULT && options_.check_races && !race.empty())"),
    ("reads are not noted", "race_detector.cpp", "if (complaint.empty()) note_read(word,",
     "if (!FAULT && complaint.empty()) note_read(word,"),
    ("every access happened before", "race_detector.cpp", "return access.agent == kNobody || access.agent == thread ||",
     "return FAULT || access.agent == kNobody || access.agent == thread ||"),
    ("proxy fences are not needed", "race_detector.cpp", "if (fenced < word.write.time)",
     "if (!FAULT && fenced < word.write.time)"),
    ("copies in flight may be read", "race_detector.cpp", "if (word.writes_in_flight) return",
     "if (!FAULT && word.writes_in_flight) return"),
    ("what engines read may be overwritten", "race_detector.cpp", "if (word.reads_in_flight) return",
     "if (!FAULT && word.reads_in_flight) return"),
    ("engines never end to read", "race_detector.cpp", "--word.reads_in_flight;", "if (!FAULT) --word.reads_in_flight;"),
    ("bar.sync orders nothing", "block.cpp", "races_.acquire(", "if (!FAULT) races_.acquire("),
    ("bar.arrive orders nothing", "block.cpp", "races_.release(static_cast<int>(thread_index), named.clock);",
     "if (!FAULT || wait) races_.release(static_cast<int>(thread_index), named.clock);"),
    ("phases of mbarriers are ignored", "tma.cpp", "while ((barrier.phase & 1) == parity) {",
     "while (!FAULT && (barrier.phase & 1) == parity) {"),
    ("expected bytes are ignored", "tma.cpp", "if (barrier.pending != 0 || barrier.bytes != 0) return;",
     "if (barrier.pending != 0 || (!FAULT && barrier.bytes != 0)) return;"),
    ("an arrival too many is taken", "tma.cpp", "if (barrier.pending == 0)\n", "if (!FAULT && barrier.pending == 0)\n"),
    ("waits of mbarriers order nothing", "tma.cpp",
     "block_.races().acquire(static_cast<int>(block_.thread_index), barrier.completed);",
     "if (!FAULT) block_.races().acquire(static_cast<int>(block_.thread_index), barrier.completed);"),
    ("boxes are not swizzled", "tma.cpp", "swizzled(load.shared + static_cast<uint32_t>(offset + chunk), swizzle)",
     "swizzled(load.shared + static_cast<uint32_t>(offset + chunk), FAULT ? 0 : swizzle)"),
    ("outside a tensor lie ones", "tma.cpp", "std::array<unsigned char, 2048> row{};\n             if (inside > 0)",
     "std::array<unsigned char, 2048> row{};\n             if (FAULT) row.fill(1);\n             if (inside > 0)"),
    ("boxes reach beyond the tensor's rows", "tma.cpp",
     "inside = inside && coordinate >= 0 && coordinate < g.extents[axis];",
     "inside = inside && coordinate >= 0 && (FAULT || coordinate < g.extents[axis]);"),
    ("late loads are early", "tma.cpp", "if (block_.options().late_tma)\n    loads_",
     "if (!FAULT && block_.options().late_tma)\n    loads_"),
    ("loads that nobody waited for end with the block", "tma.cpp", "if (!loads_.empty()) return",
     "if (!FAULT && !loads_.empty()) return"),
    ("stores need no wait", "tma.cpp", "if (!found->second.groups.empty()) return",
     "if (!FAULT && !found->second.groups.empty()) return"),
    ("descriptors without their swizzle", "wgmma.cpp", "kSwizzles[bits >> 62]", "kSwizzles[FAULT ? 0 : bits >> 62]"),
    ("sums of the other rows", "wgmma.cpp",
     "constexpr int sum_row(int t, int i) { return t / 32 * 16 + t % 32 / 4 + 8 * (i / 2 % 2); }",
     "int sum_row(int t, int i) { return t / 32 * 16 + t % 32 / 4 + 8 * (FAULT ? i % 2 : i / 2 % 2); }"),
    ("B of the other majorness", "wgmma.cpp", "if (product.b_is_mn_major) {\n    for (uint32_t k",
     "if (!FAULT && product.b_is_mn_major) {\n    for (uint32_t k"),
    ("sums are always added to", "wgmma.cpp", "if (!product.accumulate)", "if (!FAULT && !product.accumulate)"),
    ("wgmma.fence is not needed", "wgmma.cpp", "if (!lane.fenced)", "if (!FAULT && !lane.fenced)"),
    ("late sums are early", "wgmma.cpp", "block_.options().late_wgmma\n              ?",
     "!FAULT && block_.options().late_wgmma\n              ?"),
    ("sums in flight may be written", "wgmma.cpp",
     "if (std::bit_cast<uint32_t>(sum) != std::bit_cast<uint32_t>(meanwhile))",
     "if (!FAULT && std::bit_cast<uint32_t>(sum) != std::bit_cast<uint32_t>(meanwhile))"),
    ("registers without end", "wgmma.cpp", "while ((count - group.registers) * 128 > free_registers_) {",
     "while (!FAULT && (count - group.registers) * 128 > free_registers_) {"),
    ("registers given back are lost", "wgmma.cpp", "free_registers_ -= (count - group.registers) * 128;",
     "if (!FAULT) free_registers_ -= (count - group.registers) * 128;"),
    ("late copies are early", "collectives.cpp", "if (!block.options().late_copies) finish(block, copy);",
     "if (FAULT || !block.options().late_copies) finish(block, copy);"),
    ("every wait is for all copies", "collectives.cpp", "committed.size() > static_cast<size_t>(groups)",
     "committed.size() > (FAULT ? 0 : static_cast<size_t>(groups))"),
    ("invalid copies leave what was there", "collectives.cpp", "    std::memset(to, 0, 16);",
     "    std::memset(to, 0, FAULT ? 0 : 16);"),
    ("ldmatrix never transposes", "collectives.cpp", "const uint32_t low = transposed ?",
     "const uint32_t low = !FAULT && transposed ?"),
    ("registers 1 and 2 of A change places", "collectives.cpp", "a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + h]",
     "a[g + 8 * (FAULT ? i / 2 : i % 2)][2 * t + 8 * (FAULT ? i % 2 : i / 2) + h]"),
    ("bar.warp.sync orders nothing", "collectives.cpp", "self.races().acquire(self.warp() * 32 + l, clock);",
     "if (!FAULT) self.races().acquire(self.warp() * 32 + l, clock);"),
    ("subnormals are not flushed", "collectives.cpp", "std::fpclassify(y) == FP_SUBNORMAL ?",
     "!FAULT && std::fpclassify(y) == FP_SUBNORMAL ?"),
    ("plain accesses go anywhere", "block.cpp",
     "check_global_range(address, bytes, write, write ? \"a store\" : \"a load\");",
     "if (!FAULT) check_global_range(address, bytes, write, write ? \"a store\" : \"a load\");"),
    ("inputs may be written", "block.cpp", "if (write && !buffer.writable)\n", "if (!FAULT && write && !buffer.writable)\n"),
    ("shared accesses need no alignment", "block.cpp", "if (address % bytes != 0)\n",
     "if (!FAULT && address % bytes != 0)\n"),
    ("threads run in one order", "block.cpp", "if (options_.seed != 0) std::swap(",
     "if (!FAULT && options_.seed != 0) std::swap("),
    ("blocks end at half a barrier", "block.cpp", "if (barriers_[id].arrived != 0)",
     "if (!FAULT && barriers_[id].arrived != 0)"),
    ("barriers of two minds", "block.cpp", "if (named.threads != threads)\n", "if (!FAULT && named.threads != threads)\n"),
    ("barriers of any count", "block.cpp", "if (threads == 0 || threads % 32 != 0 ||",
     "if (threads == 0 || (!FAULT && threads % 32 != 0) ||"),
    ("copies need no commit", "block.cpp", "if (!thread.copies.open.empty()) fail(",
     "if (!FAULT && !thread.copies.open.empty()) fail("),
    ("primitives need no alignment", "block.cpp", "if (begin % bytes != 0) fail(",
     "if (!FAULT && begin % bytes != 0) fail("),
    ("mbarriers anywhere", "tma.cpp", "if (!block_.shared_memory().contains(address, 8) || address % 8 != 0)",
     "if (!FAULT && (!block_.shared_memory().contains(address, 8) || address % 8 != 0))"),
    ("mbarriers twice", "tma.cpp", "if (barriers_.contains(address)) block_",
     "if (!FAULT && barriers_.contains(address)) block_"),
    ("mbarriers for nobody", "tma.cpp", "if (count == 0 ||", "if ((!FAULT && count == 0) ||"),
    ("bytes without end", "tma.cpp", "if (barrier.bytes >= 1 << 20)", "if (!FAULT && barrier.bytes >= 1 << 20)"),
    ("bytes left over", "tma.cpp", "if (barrier.bytes != 0)\n", "if (!FAULT && barrier.bytes != 0)\n"),
    ("parities beyond 1", "tma.cpp", "if (parity > 1)", "if (!FAULT && parity > 1)"),
    ("boxes out of place", "tma.cpp", "if (shared % 128 != 0)", "if (!FAULT && shared % 128 != 0)"),
    ("stores need no commit", "tma.cpp", "if (!found->second.open.empty()) return",
     "if (!FAULT && !found->second.open.empty()) return"),
    ("put-off loads come when all wait", "block.cpp", "if (options_.seed % 2 == 1 && tma_->has_loads()",
     "if (!FAULT && options_.seed % 2 == 1 && tma_->has_loads()"),
    ("put-off loads come early in every order", "block.cpp", "options_.seed % 2 == 1 && tma_->has_loads()",
     "(FAULT || options_.seed % 2 == 1) && tma_->has_loads()"),
    ("descriptors of one thread count", "wgmma.cpp",
     'block_.fail(fmt::format("wgmma: the descriptors', 'if (!FAULT) block_.fail(fmt::format("wgmma: the descriptors'),
    ("base offsets are ignored", "wgmma.cpp", "if (Descriptor(bits).base_offset != 0)",
     "if (!FAULT && Descriptor(bits).base_offset != 0)"),
    ("sums of two shapes", "wgmma.cpp", "if (sums.registers != registers || sums.columns != columns)",
     "if (!FAULT && (sums.registers != registers || sums.columns != columns))"),
    ("wgmma need no commit", "wgmma.cpp", "if (!group.open.empty()) return", "if (!FAULT && !group.open.empty()) return"),
    ("wgmma need no wait", "wgmma.cpp", "if (!group.groups.empty()) return",
     "if (!FAULT && !group.groups.empty()) return"),
    ("registers by any step", "wgmma.cpp", "if (increase ? count < group.registers : count > group.registers)",
     "if (!FAULT && (increase ? count < group.registers : count > group.registers))"),
    ("wgmma orders nothing", "wgmma.cpp", "block_.races().acquire(first + t, clock);",
     "if (!FAULT) block_.races().acquire(first + t, clock);"),
    ("parts of warpgroups", "wgmma.cpp", "if ((index + 1) * 128 > block_.threads())\n",
     "if (!FAULT && (index + 1) * 128 > block_.threads())\n"),
    ("banks without conflicts", "bank_counter.cpp", "++per_bank[word % 32];",
     "per_bank[word % 32] = FAULT ? 1 : per_bank[word % 32] + 1;"),
]

HEADER = """#pragma once
#include <cstdlib>
#include <string_view>
inline const std::string_view planted_fault = [] {
  const char* name = std::getenv("TILEWRIGHT_PLANTED_FAULT");
  return name ? std::string_view(name) : std::string_view();
}();
"""


class Campaign:
    def __init__(self, build, folder):
        self.build, self.folder = build, folder
        self.environment = dict(os.environ, TILEWRIGHT_TUNING="off", TILEWRIGHT_CACHE_DIR=os.path.join(folder, "kernels"))

    def run(self, command, **how):
        return subprocess.run(command, cwd=self.build, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **how)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as out:
            out.write(text)
        return path

    def plant(self):
        """Faulty copies by source path."""
        self.write("planted_fault.h", HEADER)
        texts = {}
        for name, file, find, replace in FAULTS:
            source = os.path.join(ROOT, "emulator", file)
            if source not in texts:
                with open(source) as original:
                    texts[source] = '#include "planted_fault.h"\n' + original.read()
            if texts[source].count(find) != 1:
                sys.exit(f'"{name}" is not to be planted: {file} has "{find}" {texts[source].count(find)} times')
            texts[source] = texts[source].replace(find, replace.replace("FAULT", f'(planted_fault == "{name}")'))
        return {source: self.write("faulty_" + os.path.basename(source), text) for source, text in texts.items()}

    def link(self):
        """BUILD's test_emulator with the faulty copies in it."""
        copies = self.plant()
        commands = self.run(["ninja", "-t", "commands", "test_emulator"]).stdout.splitlines()
        jobs = []
        for command in commands:
            words = shlex.split(command)
            if "-c" not in words or "tilewright_emulator.dir" not in words[words.index("-o") + 1]:
                continue
            unit = words[words.index("-c") + 1]
            if unit in copies:
                faulty = copies.pop(unit)
            elif "/Unity/" in unit:
                with open(unit) as batch:
                    text = batch.read()
                taken = [source for source in copies if f'"{source}"' in text]
                if not taken:
                    continue
                for source in taken:
                    text = text.replace(f'"{source}"', f'"{copies.pop(source)}"')
                faulty = self.write(os.path.basename(unit), text)
            else:
                continue
            words[words.index("-c") + 1] = faulty
            words[words.index("-o") + 1] = faulty + ".o"
            at = words.index("-MD")
            del words[at:at + 5]  # -MD -MT … -MF …
            jobs.append((words + ["-O1", "-w"], faulty + ".o"))
        if copies:
            sys.exit(f"{self.build} does not compile {', '.join(copies)}")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done in pool.map(lambda job: self.run(job[0]), jobs):
                if done.returncode != 0:
                    sys.exit("the faulty emulator does not compile:\n" + done.stdout[-3000:])
        test = os.path.join(self.folder, "test_emulator")
        link = next(line for line in reversed(commands) if " -o test_emulator " in line)
        objects = " ".join(shlex.quote(made) for _, made in jobs)
        done = self.run(link.replace(" -o test_emulator ", f" {objects} -o {shlex.quote(test)} ", 1), shell=True)
        if done.returncode != 0:
            sys.exit("the faulty emulator does not link:\n" + done.stdout[-3000:])
        return test

    def noticed(self, test, fault):
        """Which test failed, or how else the run ended; empty when all passed."""
        environment = dict(self.environment, TILEWRIGHT_PLANTED_FAULT=fault)
        try:
            done = self.run([test, "--gtest_brief=1", "--gtest_fail_fast", "--gtest_filter=" + TESTS], env=environment,
                            timeout=120)
        except subprocess.TimeoutExpired:
            return "it hung"
        failed = re.search(r"\[  FAILED  \] (\S+)", done.stdout)
        return failed.group(1) if failed else f"it ended with {done.returncode}" if done.returncode else ""


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    part = sys.argv[2] if len(sys.argv) > 2 else ""
    names = [name for name, *_ in FAULTS if part in name]
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(os.path.abspath(sys.argv[1]), folder)
        test = campaign.link()
        if clean := campaign.noticed(test, ""):
            sys.exit(f"the emulator with no fault planted fails: {clean}")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            how = dict(zip(names, pool.map(lambda name: campaign.noticed(test, name), names)))
    for name, noticed in how.items():
        print(f"{name}: {noticed or 'NOT NOTICED'}")
    missed = sum(not noticed for noticed in how.values())
    print(f"{len(names)} faults planted, {missed} not noticed")
    sys.exit(1 if missed or not names else 0)


main()
