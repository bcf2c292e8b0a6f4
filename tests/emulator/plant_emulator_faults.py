#!/usr/bin/env python3
"""Plants faults in the emulator itself, one at a time, and asks whether the emulator's own tests notice.

usage: plant_emulator_faults.py [NAME_PART]      (./dev emulator-faults)

A faulty copy of one source file is compiled, linked before the library into test_emulator as built in build/release, and
the tests of the emulator (not those of kernels) must fail. Nothing in the tree changes."""
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build/release")
TESTS = "Misuse.*:Statistics.*:Tables/Primitive.*:Base.*:Sm80.*:Tma.*:Wgmma.*:Registers.*"

# What is wrong, the file, the text and what stands in its place.
FAULTS = [
    ("the race detector is off", "block.cpp", "if (options_.check_races && !race.empty())", "if (false && !race.empty())"),
    ("reads are not noted", "race_detector.cpp", "if (complaint.empty()) note_read(word,", "if (false) note_read(word,"),
    ("every access happened before", "race_detector.cpp", "return access.agent == kNobody || access.agent == thread ||",
     "return true || access.agent == thread ||"),
    ("proxy fences are not needed", "race_detector.cpp", "if (fenced < word.write.time)", "if (false)"),
    ("copies in flight may be read", "race_detector.cpp", "if (word.writes_in_flight) return", "if (false) return"),
    ("bar.sync orders nothing", "block.cpp", "races_.acquire(", "(void)(", ),
    ("phases of mbarriers are ignored", "tma.cpp", "while ((barrier.phase & 1) == parity) {", "while (false) {"),
    ("expected bytes are ignored", "tma.cpp", "if (barrier.pending != 0 || barrier.bytes != 0) return;",
     "if (barrier.pending != 0) return;"),
    ("an arrival too many is taken", "tma.cpp", "if (barrier.pending == 0)\n", "if (false)\n"),
    ("boxes are not swizzled", "tma.cpp", "std::memcpy(shared.at(swizzled(load.shared + static_cast<uint32_t>(offset + chunk), swizzle)),",
     "std::memcpy(shared.at(swizzled(load.shared + static_cast<uint32_t>(offset + chunk), 0)),"),
    ("outside a tensor lie ones", "tma.cpp", "std::array<unsigned char, 2048> row{};\n             if (inside > 0)",
     "std::array<unsigned char, 2048> row; row.fill(1);\n             if (inside > 0)"),
    ("stores reach beyond the tensor's rows", "tma.cpp",
     "inside = inside && coordinate >= 0 && coordinate < g.extents[axis];", "inside = inside && coordinate >= 0;"),
    ("late loads are early", "tma.cpp", "if (block_.options().late_tma)\n    loads_", "if (false)\n    loads_"),
    ("descriptors without their swizzle", "wgmma.cpp", "kSwizzles[bits >> 62]", "kSwizzles[0]"),
    ("sums of the other rows", "wgmma.cpp", "t % 32 / 4 + 8 * (i / 2 % 2); }\nconstexpr int sum_column",
     "t % 32 / 4 + 8 * (i % 2); }\nconstexpr int sum_column"),
    ("wgmma.fence is not needed", "wgmma.cpp", "if (!lane.fenced)", "if (false)"),
    ("late sums are early", "wgmma.cpp", "block_.options().late_wgmma\n              ?", "false\n              ?"),
    ("registers without end", "wgmma.cpp", "while ((count - group.registers) * 128 > free_registers_) {", "while (false) {"),
    ("late copies are early", "collectives.cpp", "if (!block.options().late_copies) finish(block, copy);",
     "finish(block, copy);"),
    ("invalid copies leave what was there", "collectives.cpp", "    std::memset(to, 0, 16);", "    (void)to;"),
    ("ldmatrix never transposes", "collectives.cpp", "const uint32_t low = transposed ?", "const uint32_t low = false ?"),
    ("registers 1 and 2 of A change places", "collectives.cpp", "a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + h]",
     "a[g + 8 * (i / 2)][2 * t + 8 * (i % 2) + h]"),
    ("bar.warp.sync orders nothing", "collectives.cpp",
     "self.races().acquire(self.warp() * 32 + l, clock);", "(void)l;"),
    ("subnormals are not flushed", "collectives.cpp", "std::fpclassify(y) == FP_SUBNORMAL ?", "false ?"),
    ("plain accesses go anywhere", "block.cpp", "check_global_range(address, bytes, write, write ? \"a store\" : \"a load\");", ""),
    ("banks without conflicts", "bank_counter.cpp", "++per_bank[word % 32];", "per_bank[word % 32] = 1;"),
]


def run(command, **how):
    return subprocess.run(command, shell=True, cwd=BUILD, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **how)


def main():
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    commands = run("ninja -t commands test_emulator").stdout.splitlines()
    link = next(line for line in reversed(commands) if " -o test_emulator " in line)
    compile_one = next(line for line in commands if "tilewright_emulator.dir" in line and " -c " in line)
    keep = [word for word in compile_one.split() if word.startswith(("-I", "-D", "-std", "-f")) or word == "-isystem"]
    keep = [word for word in keep if word not in ("-fpch-preprocess", "-isystem")]
    missed = planted = 0
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ, TILEWRIGHT_CACHE_DIR=os.path.join(folder, "cache"), TILEWRIGHT_TUNING="off")
        clean = run(f"./test_emulator --gtest_brief=1 --gtest_filter='{TESTS}'", env=environment)
        if clean.returncode != 0:
            sys.exit("the clean emulator fails its tests:\n" + clean.stdout[-2000:])
        for name, file, find, replace in FAULTS:
            if part not in name:
                continue
            with open(os.path.join(ROOT, "emulator", file)) as source:
                text = source.read()
            if find not in text:
                sys.exit(f'"{name}" is not to be planted: {file} has no "{find}"')
            planted += 1
            faulty, made, test = (os.path.join(folder, end) for end in ("faulty.cpp", "faulty.o", "test"))
            with open(faulty, "w") as copy:
                copy.write(text.replace(find, replace))
            done = run(f"c++ {' '.join(keep)} -w -O0 -c -o {made} {faulty}")
            if done.returncode != 0:
                sys.exit(f'"{name}" does not compile:\n{done.stdout[-2000:]}')
            # The faulty file's functions come first, and the first definition counts.
            done = run(re.sub(r" -o test_emulator ", f" -Wl,--allow-multiple-definition {made} -o {test} ", link, count=1))
            if done.returncode != 0:
                sys.exit(f'"{name}" does not link:\n{done.stdout[-2000:]}')
            try:
                done = run(f"{test} --gtest_brief=1 --gtest_fail_fast --gtest_filter='{TESTS}'", env=environment, timeout=300)
                failed = re.search(r"\[  FAILED  \] (\S+)", done.stdout)
                noticed = failed.group(1) if failed else "it ended" if done.returncode else ""
            except subprocess.TimeoutExpired:
                noticed = "it hung"
            missed += not noticed
            print(f"{name}: {noticed or 'NOT NOTICED'}", flush=True)
    print(f"{planted} faults planted, {missed} not noticed")
    sys.exit(1 if missed or not planted else 0)


main()
