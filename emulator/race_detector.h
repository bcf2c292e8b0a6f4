// RaceDetector: which accesses of shared memory are ordered, by vector clocks.
//
// Agents are the threads of the block, a warpgroup's products (wgmma) each, and a TMA engine for each mbarrier. An
// agent's time goes on whenever it releases. A clock says up to which time of every agent its holder has seen; it comes
// with a second one that says up to which time the writes of an agent are visible to the asynchronous proxy
// (fence.proxy.async). Threads that passed the same barrier share one clock, so joining is mostly a comparison of
// pointers.
//
// Every word remembers its last write, a few reads, and the asynchronous accesses in flight. An access that is not
// ordered after the ones that it conflicts with is a race in every schedule, even where this run's order was harmless.
// What is forgotten (the fifth reader of a word, bytes of a word that another thread wrote over) is not reported.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tilewright {

class RaceDetector {
 public:
  using Times = std::vector<uint32_t>;
  /// What a barrier carries from those who arrive to those who leave.
  struct Clock {
    std::shared_ptr<const Times> seen, fenced;
    std::shared_ptr<const Times> seen_part, fenced_part;  ///< what was joined to them last
  };

  RaceDetector(int threads, size_t bytes);

  /// Agents besides the threads.
  static constexpr int kTmaEngines = 64;
  int tma_engine(int barrier) const { return threads_ + barrier % kTmaEngines; }
  int products(int warpgroup) const { return threads_ + kTmaEngines + warpgroup; }

  /// All that happened is seen by all threads: a block begins.
  void begin_block();
  /// What thread has seen and done becomes part of `to`.
  void release(int thread, Clock& to);
  void acquire(int thread, const Clock& from);
  static void join(Clock& into, const Clock& other);
  /// The agent has done something: `to` has seen it.
  void release_agent(int agent, Clock& to);
  /// What the thread has seen and done becomes visible to the asynchronous proxy.
  void fence_proxy(int thread);

  // Accesses of a thread. Empty, or with whom they race: "which thread 3 writes with nothing in between".
  std::string read(int thread, uint32_t address, uint32_t bytes);
  std::string write(int thread, uint32_t address, uint32_t bytes);
  // An asynchronous write: asked for by a thread, in flight, done. cp.async is done by the thread itself.
  std::string begin_write(int thread, uint32_t address, uint32_t bytes);
  void end_write(int agent, uint32_t address, uint32_t bytes);
  // An asynchronous read through the asynchronous proxy, which the thread asks for.
  std::string begin_read(int thread, uint32_t address, uint32_t bytes);
  void end_read(int agent, uint32_t address, uint32_t bytes);

 private:
  struct Access {
    uint16_t agent = kNobody;
    uint16_t bytes = 0;  ///< of the word, one bit each
    uint32_t time = 0;
  };
  struct Word {
    Access write;
    std::array<Access, 4> reads;
    uint16_t writes_in_flight = 0, reads_in_flight = 0;
    bool written_by_engine = false;  ///< no fence is needed before the asynchronous proxy reads it
  };
  struct Thread {
    std::shared_ptr<const Times> seen, fenced;  ///< of all others
    uint32_t now = 1;
    uint32_t own_fenced = 0;
  };
  static constexpr uint16_t kNobody = 0xffff;

  uint32_t time_of(int agent) const;
  bool happened_before(const Access& access, int thread) const;
  std::string name(const Access& access) const;
  std::string conflict_with_write(const Word& word, int thread, uint16_t bytes) const;
  std::string conflict_with_reads(const Word& word, int thread, uint16_t bytes) const;
  void note_read(Word& word, Access access, int thread);
  std::shared_ptr<const Times> joined(const std::shared_ptr<const Times>& a, const std::shared_ptr<const Times>& b);
  template <class Visit>
  std::string each_word(uint32_t address, uint32_t bytes, Visit visit);

  int threads_;
  std::vector<Word> words_;
  std::vector<Thread> clocks_;
  Times agent_times_;  ///< of agents besides threads, by agent
  struct Join {
    std::shared_ptr<const Times> a, b, result;
  };
  std::array<Join, 8> recent_joins_;
  size_t next_join_ = 0;
};

}  // namespace tilewright
