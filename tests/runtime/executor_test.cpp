#include "runtime/executor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "runtime/launch_expr.h"

namespace tilewright {
namespace {

TEST(ThreadPool, CallsEveryWorkerOnce) {
  for (const int workers : {1, 2, 5}) {
    const auto pool = make_thread_pool(workers);
    ASSERT_EQ(pool->workers(), workers);
    for (int repeat = 0; repeat < 200; ++repeat) {
      std::vector<std::atomic<int>> calls(static_cast<size_t>(workers));
      pool->run([&](int worker) { calls[static_cast<size_t>(worker)]++; });
      for (const auto& count : calls) EXPECT_EQ(count, 1);
    }
  }
}

TEST(ThreadPool, RunsFromSeveralThreadsAndNests) {
  const auto pool = make_thread_pool(3);
  std::atomic<int> sum{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i)
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 50; ++repeat) pool->run([&](int) { pool->run([&](int) { ++sum; }); });
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sum, 4 * 50 * 9);
}

TEST(LaunchExpr, IntegerArithmeticOfTheIr) {
  const std::vector<std::string> names = {"B", "Sq"};
  Expr e;
  const auto sq = e.dim(Dim::named("Sq") + 3), b = e.dim(Dim::named("B"));
  const auto blocks = e.op(Op::div, DType::i64, {sq, e.constant_int(4, DType::i64)});
  const auto items = e.op(Op::mul, DType::i64, {blocks, b});
  e.set_root(items);
  EXPECT_EQ(LaunchExpr(e, names).evaluate(std::vector<int64_t>{3, 10}), 9);
  const auto eval2 = [&](Op op, int64_t x, int64_t y) {
    Expr f;
    f.set_root(f.op(op, DType::i64, {f.constant_int(x, DType::i64), f.constant_int(y, DType::i64)}));
    return LaunchExpr(f, names).evaluate(std::vector<int64_t>{0, 0});
  };
  EXPECT_EQ(eval2(Op::div, -7, 2), -4);
  EXPECT_EQ(eval2(Op::mod, -7, 2), 1);
  EXPECT_EQ(eval2(Op::div, 7, 0), 0);
  EXPECT_EQ(eval2(Op::mod, 7, 0), 0);
  EXPECT_EQ(eval2(Op::div, INT64_MIN, -1), INT64_MIN);
  EXPECT_EQ(eval2(Op::mod, INT64_MIN, -1), 0);
  EXPECT_EQ(LaunchExpr(Expr(), names).evaluate(std::vector<int64_t>{0, 0}), 0);
}

}  // namespace
}  // namespace tilewright
