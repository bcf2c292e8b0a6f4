#include "emulator/race_detector.h"

#include <fmt/format.h>

#include <algorithm>

namespace tilewright {
namespace {

std::shared_ptr<const RaceDetector::Times> larger(const RaceDetector::Times& a, const RaceDetector::Times& b) {
  auto result = std::make_shared<RaceDetector::Times>(a.size());
  std::transform(a.begin(), a.end(), b.begin(), result->begin(), [](uint32_t x, uint32_t y) { return std::max(x, y); });
  return result;
}

/// `times` to write to: the object itself when nobody shares it.
RaceDetector::Times& own(std::shared_ptr<const RaceDetector::Times>& times) {
  if (times.use_count() != 1) times = std::make_shared<RaceDetector::Times>(*times);
  return const_cast<RaceDetector::Times&>(*times);
}

}  // namespace

RaceDetector::RaceDetector(int threads, size_t bytes)
    : threads_(threads),
      words_((bytes + 3) / 4),
      clocks_(static_cast<size_t>(threads)),
      agent_times_(static_cast<size_t>(products((threads + 127) / 128)), 1) {
  begin_block();
}

void RaceDetector::begin_block() {
  // Later than everything in all blocks before.
  Times all = agent_times_;
  for (size_t t = 0; t < clocks_.size(); ++t) all[t] = clocks_[t].now++;
  for (size_t agent = clocks_.size(); agent < all.size(); ++agent) ++agent_times_[agent];
  const auto shared = std::make_shared<Times>(std::move(all));
  for (Thread& thread : clocks_) {
    thread.seen = thread.fenced = shared;
    thread.own_fenced = thread.now - 1;
  }
}

std::shared_ptr<const RaceDetector::Times> RaceDetector::joined(const std::shared_ptr<const Times>& a,
                                                                const std::shared_ptr<const Times>& b) {
  if (!b || a == b) return a;
  if (!a) return b;
  for (const Join& join : recent_joins_)
    if (join.a == a && join.b == b) return join.result;
  Join& join = recent_joins_[next_join_++ % recent_joins_.size()];
  join = {a, b, larger(*a, *b)};
  return join.result;
}

void RaceDetector::join(Clock& into, const Clock& other) {
  const auto one = [](std::shared_ptr<const Times>& a, const std::shared_ptr<const Times>& b) {
    if (!b || a == b) return;
    a = a ? larger(*a, *b) : b;
  };
  one(into.seen, other.seen);
  one(into.fenced, other.fenced);
}

void RaceDetector::release(int thread, Clock& to) {
  Thread& clock = clocks_[static_cast<size_t>(thread)];
  const auto add = [](std::shared_ptr<const Times>& all, std::shared_ptr<const Times>& part,
                      const std::shared_ptr<const Times>& mine) {
    if (part == mine) return;
    all = all ? larger(*all, *mine) : std::make_shared<Times>(*mine);
    part = mine;
  };
  add(to.seen, to.seen_part, clock.seen);
  add(to.fenced, to.fenced_part, clock.fenced);
  own(to.seen)[static_cast<size_t>(thread)] = clock.now++;
  uint32_t& fenced = own(to.fenced)[static_cast<size_t>(thread)];
  fenced = std::max(fenced, clock.own_fenced);
}

void RaceDetector::acquire(int thread, const Clock& from) {
  Thread& clock = clocks_[static_cast<size_t>(thread)];
  clock.seen = joined(clock.seen, from.seen);
  clock.fenced = joined(clock.fenced, from.fenced);
}

void RaceDetector::release_agent(int agent, Clock& to) {
  if (!to.seen) to.seen = std::make_shared<Times>(agent_times_.size());
  own(to.seen)[static_cast<size_t>(agent)] = agent_times_[static_cast<size_t>(agent)]++;
}

void RaceDetector::fence_proxy(int thread) {
  Thread& clock = clocks_[static_cast<size_t>(thread)];
  clock.fenced = joined(clock.fenced, clock.seen);
  clock.own_fenced = clock.now++;
}

uint32_t RaceDetector::time_of(int agent) const {
  return agent < threads_ ? clocks_[static_cast<size_t>(agent)].now : agent_times_[static_cast<size_t>(agent)];
}

bool RaceDetector::happened_before(const Access& access, int thread) const {
  return access.agent == kNobody || access.agent == thread ||
         (*clocks_[static_cast<size_t>(thread)].seen)[access.agent] >= access.time;
}

std::string RaceDetector::name(const Access& access) const {
  if (access.agent < threads_) return fmt::format("thread {}", access.agent);
  if (access.agent < threads_ + kTmaEngines) return "TMA";
  return fmt::format("wgmma of warpgroup {}", access.agent - threads_ - kTmaEngines);
}

std::string RaceDetector::conflict_with_write(const Word& word, int thread, uint16_t bytes) const {
  if (word.writes_in_flight) return "where an asynchronous copy is in flight";
  if ((word.write.bytes & bytes) && !happened_before(word.write, thread))
    return fmt::format("which {} wrote with nothing in between that orders the two", name(word.write));
  return {};
}

std::string RaceDetector::conflict_with_reads(const Word& word, int thread, uint16_t bytes) const {
  if (word.reads_in_flight) return "which an asynchronous engine still reads";
  for (const Access& read : word.reads)
    if ((read.bytes & bytes) && !happened_before(read, thread))
      return fmt::format("which {} read with nothing in between that orders the two", name(read));
  return {};
}

void RaceDetector::note_read(Word& word, Access access, int thread) {
  Access* place = nullptr;
  for (Access& read : word.reads) {
    if (read.agent == access.agent && read.time == access.time) {
      read.bytes |= access.bytes;
      return;
    }
    if (!place && happened_before(read, thread)) place = &read;
  }
  if (place) *place = access;
}

template <class Visit>
std::string RaceDetector::each_word(uint32_t address, uint32_t bytes, Visit visit) {
  const uint32_t end = address + bytes;
  for (uint32_t at = address / 4 * 4; at < end; at += 4) {
    const uint32_t from = std::max(at, address) - at, to = std::min(at + 4, end) - at;
    const auto mask = static_cast<uint16_t>((1u << to) - (1u << from));
    if (std::string complaint = visit(words_[at / 4], mask); !complaint.empty()) return complaint;
  }
  return {};
}

std::string RaceDetector::read(int thread, uint32_t address, uint32_t bytes) {
  const uint32_t now = clocks_[static_cast<size_t>(thread)].now;
  return each_word(address, bytes, [&](Word& word, uint16_t mask) {
    std::string complaint = conflict_with_write(word, thread, mask);
    if (complaint.empty()) note_read(word, {static_cast<uint16_t>(thread), mask, now}, thread);
    return complaint;
  });
}

std::string RaceDetector::write(int thread, uint32_t address, uint32_t bytes) {
  const uint32_t now = clocks_[static_cast<size_t>(thread)].now;
  return each_word(address, bytes, [&](Word& word, uint16_t mask) {
    std::string complaint = conflict_with_write(word, thread, mask);
    if (complaint.empty()) complaint = conflict_with_reads(word, thread, mask);
    if (word.write.agent == thread && word.write.time == now) mask |= word.write.bytes;
    word.write = {static_cast<uint16_t>(thread), mask, now};
    word.written_by_engine = false;
    return complaint;
  });
}

std::string RaceDetector::begin_write(int thread, uint32_t address, uint32_t bytes) {
  return each_word(address, bytes, [&](Word& word, uint16_t mask) {
    std::string complaint = conflict_with_write(word, thread, mask);
    if (complaint.empty()) complaint = conflict_with_reads(word, thread, mask);
    ++word.writes_in_flight;
    return complaint;
  });
}

void RaceDetector::end_write(int agent, uint32_t address, uint32_t bytes) {
  const bool is_engine = agent >= threads_;
  const uint32_t now = time_of(agent);
  each_word(address, bytes, [&](Word& word, uint16_t mask) {
    --word.writes_in_flight;
    word.write = {static_cast<uint16_t>(agent), mask, now};
    word.written_by_engine = is_engine;
    return std::string();
  });
}

std::string RaceDetector::begin_read(int thread, uint32_t address, uint32_t bytes) {
  const Thread& clock = clocks_[static_cast<size_t>(thread)];
  return each_word(address, bytes, [&](Word& word, uint16_t mask) {
    std::string complaint = conflict_with_write(word, thread, mask);
    if (complaint.empty() && !word.written_by_engine && word.write.agent != kNobody) {
      const uint32_t fenced = word.write.agent == thread ? clock.own_fenced : (*clock.fenced)[word.write.agent];
      if (fenced < word.write.time)
        complaint = fmt::format("which {} wrote with no fence.proxy.async before the barrier", name(word.write));
    }
    ++word.reads_in_flight;
    return complaint;
  });
}

void RaceDetector::end_read(int agent, uint32_t address, uint32_t bytes) {
  const uint32_t now = time_of(agent);
  each_word(address, bytes, [&](Word& word, uint16_t mask) {
    --word.reads_in_flight;
    for (Access& read : word.reads)
      if (read.agent == agent || read.agent == kNobody) {
        read = {static_cast<uint16_t>(agent), mask, now};
        return std::string();
      }
    word.reads[0] = {static_cast<uint16_t>(agent), mask, now};
    return std::string();
  });
}

}  // namespace tilewright
