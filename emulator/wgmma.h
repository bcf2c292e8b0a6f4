// Products of warpgroups (wgmma.mma_async), and their registers (setmaxnreg).
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <list>
#include <string>
#include <vector>

#include "emulator/block.h"

namespace tilewright {

class Warpgroups {
 public:
  explicit Warpgroups(EmulatedBlock& block) : block_(block) {}
  /// A block of `threads` begins.
  void reset(int threads, int blocks_per_multiprocessor);

  struct Product {
    float* d = nullptr;  ///< n / 2 sums of the running thread
    int n = 0;
    const uint32_t* a = nullptr;  ///< four registers, else a_descriptor
    uint64_t a_descriptor = 0, b_descriptor = 0;
    bool accumulate = false, b_is_mn_major = false, is_bf16 = true;
  };
  void fence();
  void multiply(const Product& product);
  void commit();
  void wait(int groups);
  void set_registers(int count, bool increase);
  /// What is wrong with the end of the running thread; empty when nothing is.
  std::string left_by_current() const;

 private:
  /// Sums of a warpgroup that products are in flight for. The kernel's registers hold kInFlight meanwhile, where
  /// products finish late.
  struct Sums {
    std::array<float*, 128> registers{};  ///< by thread
    int columns = 0;
    std::vector<float> matrix;  ///< [64][columns]: what they will be
    int in_flight = 0;          ///< products
  };
  struct Pending {
    Product product;
    Sums* sums = nullptr;
    std::array<std::array<uint32_t, 4>, 128> a{};
    std::vector<uint32_t> chunks;  ///< 16 bytes each of shared memory that it reads
  };
  struct Group {
    Rendezvous rendezvous;
    std::vector<Pending> open;
    std::deque<std::vector<Pending>> groups;
    std::list<Sums> sums;
    int registers = 0;  ///< per thread
  };
  struct Lane {
    Product product;
    bool fenced;
  };
  Group& mine();
  int position() const;
  void issue(Group& group, const std::array<void*, 128>& lanes);
  void gather_chunks(Pending& pending);
  void check_reads(const Pending& pending);
  Sums& sums_of(Group& group, const std::array<void*, 128>& lanes);
  void compute(const Pending& pending);
  void finish(Group& group, size_t keep);
  void give_back(const Sums& sums);

  EmulatedBlock& block_;
  std::vector<Group> groups_;
  int free_registers_ = 0;
  std::vector<int> waiting_;
};

void install_wgmma(EmulatedBlock& block);

}  // namespace tilewright
