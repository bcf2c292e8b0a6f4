// The tensor memory accelerator of one block, and the mbarriers that its loads complete on.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "emulator/race_detector.h"
#include "emulator/tensor_map.h"

namespace tilewright {

class EmulatedBlock;

struct MBarrier {
  int number = 0;  ///< by initialisation
  int64_t count = 0, pending = 0;
  int64_t bytes = 0;  ///< expected and not there yet
  int64_t phase = 0;
  std::vector<int> waiting;
  RaceDetector::Clock arrived, completed;  ///< of this phase, of the one before
};

class TmaEngine {
 public:
  explicit TmaEngine(EmulatedBlock& block) : block_(block) {}
  void reset();

  void initialise(uint32_t address, uint32_t count);
  void arrive(uint32_t address);
  void expect(uint32_t address, uint32_t bytes);
  void wait(uint32_t address, uint32_t parity);

  void load(uint32_t to, const void* map, uint32_t barrier, const int* at, int rank);
  void store(const void* map, uint32_t from, const int* at, int rank);
  void commit_stores();
  /// Until at most `groups` of the running thread's groups still read shared memory.
  void wait_stores(int groups);
  /// Does one load that was put off: one that somebody waits for, or, `any`, one drawn by `draw`. False: none left.
  bool step(bool any, uint64_t draw);
  bool has_loads() const { return !loads_.empty(); }

  /// What is wrong with the end of a thread, and of the block; empty when nothing is.
  std::string left_by(int thread) const;
  std::string left() const;

 private:
  struct Transfer {
    TensorMapGeometry geometry;
    std::vector<int64_t> at;  ///< element coordinates of the box, innermost first
    uint32_t shared = 0, barrier = 0;
    RaceDetector::Clock issued;
  };
  struct Stores {
    std::vector<Transfer> open;
    std::deque<std::vector<Transfer>> groups;
  };
  Transfer transfer(const char* who, uint32_t shared, const void* map, const int* at, int rank);
  MBarrier& barrier_at(uint32_t address, const char* who);
  void arrive_at(MBarrier& barrier);
  void complete_if_done(MBarrier& barrier);
  void finish_load(const Transfer& load);
  void finish_store(const Transfer& store);

  EmulatedBlock& block_;
  std::map<uint32_t, MBarrier> barriers_;
  std::deque<Transfer> loads_;
  std::map<int, Stores> stores_;  ///< by thread
};

void install_tma(EmulatedBlock& block);

}  // namespace tilewright
