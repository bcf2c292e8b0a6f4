// The tuning database: exact round trips, and files to which anything may have happened.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <random>
#include <thread>

#include "runtime/tuning_database.h"
#include "runtime/tuning_store.h"
#include "tests/tuner/tuner_support.h"

namespace tilewright::testing {
namespace {

TuningEntry entry(const std::string& shape, int64_t block_q = 48) {
  return {"avx512 l1 1 l2 2 cores 1-4 l3 3 of 4",
          "llvm 19 source abc",
          shape,
          {{"block_q", block_q}, {"mr", 6}},
          190.5,
          181,
          "2026-11-21"};
}

Result<TuningDatabase> parse(const std::string& text) {
  int64_t left_out = 0;
  return TuningDatabase::parse(text, left_out);
}

TEST(TuningDatabase, PrintsWhatItParses) {
  TuningDatabase database;
  for (const char* shape : {"b", "a", "prefill avx512 | q f32"}) database.put(entry(shape));
  database.put(entry("a", 96));
  const auto again = parse(database.text());
  ASSERT_TRUE(again) << to_string(again.error());
  EXPECT_EQ(again->text(), database.text());
  EXPECT_EQ(again->size(), 3u);
  const TuningEntry* found = again->find(entry("a").device, entry("a").compiler, "a");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->integers[0].second, 96);
  EXPECT_EQ(again->find(entry("a").device, "llvm 20", "a"), nullptr);
  EXPECT_NE(again->find(entry("a").device, "", "a"), nullptr);
  EXPECT_EQ(again->find("another device", "", "a"), nullptr);
}

TEST(TuningDatabase, AnyTruncationIsNoDatabase) {
  TuningDatabase database;
  database.put(entry("a"));
  const std::string text = database.text();
  for (size_t size = 0; size + 2 < text.size(); ++size) EXPECT_FALSE(parse(text.substr(0, size))) << size;
}

TEST(TuningDatabase, FlippedBytesNeverCrashAndNeverInventIntegers) {
  TuningDatabase database;
  for (const char* shape : {"a", "b", "c"}) database.put(entry(shape));
  const std::string text = database.text();
  std::mt19937_64 random(3);
  for (int i = 0; i < 4000; ++i) {
    std::string bad = text;
    for (int flips = 0; flips < 1 + i % 3; ++flips) bad[random() % bad.size()] ^= static_cast<char>(1 << random() % 8);
    const auto found = parse(bad);
    if (!found) continue;
    EXPECT_LE(found->size(), 3u);
    EXPECT_TRUE(parse(found->text())) << bad;
  }
}

TEST(TuningDatabase, HostileTextsAreRefused) {
  const auto wrap = [](const std::string& entries) {
    return R"({"format": "tilewright tuning 1", "entries": [)" + entries + "]}";
  };
  for (const std::string& text : std::initializer_list<std::string>{
           std::string(), std::string("null"), std::string("[]"), std::string("{}"), std::string("\x00\x01", 2),
           std::string(1 << 20, '['), std::string(1 << 20, '{'), std::string(R"({"format": 1, "entries": []})"),
           R"({"format": "tilewright tuning 2", "entries": []})",
           R"({"format": "tilewright tuning 1", "entries": {}})"})
    EXPECT_FALSE(parse(text)) << text.substr(0, 60);
  const std::string good =
      R"({"device":"d","compiler":"c","class":"s","schedule":{"block_q":1},"gflops":1,"rules_gflops":1,"date":"2026"})";
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    return wrap(text.replace(text.find(from), from.size(), to));
  };
  int64_t left_out = 0;
  ASSERT_TRUE(TuningDatabase::parse(wrap(good), left_out));
  EXPECT_EQ(left_out, 0);
  for (const std::string& text :
       {wrap("1"), wrap("[]"), wrap("{}"), with("\"block_q\":1", "\"block_q\":1.5"),
        with("\"block_q\":1", "\"block_q\":\"1\""), with("\"block_q\":1", "\"blockq\":1"),
        with("\"block_q\":1", "\"block_q\":[1]"), with("\"gflops\":1", "\"gflops\":-1"),
        with("\"gflops\":1", "\"gflops\":0"), with("\"gflops\":1", "\"gflops\":1e300"),
        with("\"device\":\"d\"", "\"device\":\"\""), with("\"date\":\"2026\"", "\"date\":\"a\\nb\""),
        with("\"date\":\"2026\"", "\"date\":\"" + std::string(2000, 'x') + "\""),
        with("\"schedule\":{\"block_q\":1}", "\"schedule\":[]")}) {
    const auto found = TuningDatabase::parse(text, left_out);
    ASSERT_TRUE(found) << text;
    EXPECT_EQ(found->size(), 0u) << text;
    EXPECT_EQ(left_out, 1) << text;
  }
}

/// A database with one illegal or legal schedule for small_attention's prefill, of this device and build.
class TuningFile : public ::testing::Test {
 protected:
  std::string path() const { return folder_.path() + "/tuning.json"; }
  /// What a search of this build writes.
  std::string tuned_text() {
    const Engine engine = tuning_engine(path());
    auto result = engine.tune(small_attention(), kSmall, quick(2));
    TW_CHECK(result.ok());
    EXPECT_EQ(result->database, path());
    return read_file(path());
  }
  static std::string compile_reasons(const std::string& database) {
    const Engine engine = tuning_engine(database);
    const auto kernel = engine.compile(small_attention());
    TW_CHECK(kernel.ok());
    return reasons(*kernel);
  }
  TemporaryFolder folder_;
};

TEST_F(TuningFile, ASecondProcessStartsWithoutASearch) {
  tuned_text();
  const std::string text = compile_reasons(path());
  EXPECT_NE(text.find("from the tuning database: tuned on "), std::string::npos) << text;
  EXPECT_NE(text.find(" GFLOP/s against "), std::string::npos) << text;
  EXPECT_NE(text.find(" times the rules' speed (measured "), std::string::npos) << text;
  EXPECT_EQ(compile_reasons("off").find("tuning database"), std::string::npos);
  const Engine engine = tuning_engine(path());
  CompileOptions rules;
  rules.use_tuning = false;
  EXPECT_EQ(reasons(*engine.compile(small_attention(), rules)).find("tuning database"), std::string::npos);
  rules = {};
  rules.tiles.block_q = 24;
  EXPECT_EQ(reasons(*engine.compile(small_attention(), rules)).find("tuning database"), std::string::npos);
}

TEST_F(TuningFile, WhatIsIllegalForeignOrStaleIsNotUsed) {
  const std::string good = tuned_text();
  const auto with = [&](const std::string& key, const std::string& value) {
    std::string text = good;
    const size_t at = text.find("\"" + key + "\": ");
    TW_CHECK(at != std::string::npos);
    const size_t from = at + key.size() + 4;
    size_t to = text.find_first_of(",\n", from);
    if (text[from] == '"') to = text.find('"', from + 1) + 1;
    write_file(path(), text.replace(from, to - from, value));
    return compile_reasons(path());
  };
  EXPECT_NE(with("date", "\"2020-02-02\"").find("on 2020-02-02"), std::string::npos) << "the test edits the file right";
  for (const auto& [key, value] : {std::pair<const char*, const char*>{"block_q", "7"},
                                   {"block_q", "-48"},
                                   {"block_q", "0"},
                                   {"block_q", "9223372036854775807"},
                                   {"block_q", "1e3"},
                                   {"mr", "31"},
                                   {"nv", "0"},
                                   {"k_unroll", "3"},
                                   {"block_kv", "4194304"},
                                   {"lanes", "4"},
                                   {"share_packed", "7"},
                                   {"device", "\"another\""},
                                   {"compiler", "\"another\""},
                                   {"class", "\"another\""},
                                   {"format", "\"another\""}})
    EXPECT_EQ(with(key, value).find("tuning database"), std::string::npos) << key << " " << value;
}

TEST_F(TuningFile, KernelsAreRightWhateverTheFileSays) {
  const std::string good = tuned_text();
  std::mt19937_64 random(11);
  const Graph graph = small_attention();
  const auto by_rules = tuning_engine("off").compile(graph);
  for (int i = 0; i < 25; ++i) {
    std::string bad = good;
    for (int flips = 0; flips < 3; ++flips) {
      // Digits become other digits: files that parse and lie.
      size_t at = random() % bad.size();
      while (!isdigit(static_cast<unsigned char>(bad[at]))) at = (at + 1) % bad.size();
      bad[at] = static_cast<char>('0' + random() % 10);
    }
    write_file(path(), bad);
    const auto kernel = tuning_engine(path()).compile(graph);
    ASSERT_TRUE(kernel);
    std::vector<float> q(70 * 64), k(90 * 64), v(90 * 64), o(70 * 64), expected(70 * 64);
    for (auto* data : {&q, &k, &v})
      for (float& x : *data) x = static_cast<float>(random() % 1000) / 500 - 1;
    const auto view = [](std::vector<float>& data, int64_t rows) {
      return TensorView::contiguous(data.data(), DType::f32, {1, 2, rows, 32});
    };
    const std::vector in{view(q, 70), view(k, 90), view(v, 90)};
    ASSERT_TRUE(kernel->run(in, std::vector{view(o, 70)}));
    ASSERT_TRUE(by_rules->run(in, std::vector{view(expected, 70)}));
    for (size_t j = 0; j < o.size(); ++j) ASSERT_NEAR(o[j], expected[j], 1e-5) << bad;
  }
}

TEST_F(TuningFile, FilesOfOthersAreNotOverwritten) {
  const std::string other = folder_.path() + "/package.json";
  write_file(other, R"({"name": "mine"})");
  const auto result = tuning_engine(other).tune(small_attention(), kSmall, quick(2));
  ASSERT_FALSE(result);
  EXPECT_NE(to_string(result.error()).find("package.json is not overwritten: it is no tuning database"),
            std::string::npos)
      << to_string(result.error());
  EXPECT_EQ(read_file(other), R"({"name": "mine"})");
  EXPECT_FALSE(tuning_engine("/nowhere/t.json").tune(small_attention(), kSmall, quick(2)));
  const std::string target = folder_.path() + "/target.json", link = folder_.path() + "/link.json";
  write_file(target, "{}");
  ASSERT_EQ(symlink(target.c_str(), link.c_str()), 0);
  EXPECT_FALSE(tuning_engine(link).tune(small_attention(), kSmall, quick(2))) << "links are not followed";
}

TEST_F(TuningFile, OursInTheCacheIsMendedAndOthersEntriesSurvive) {
  TuningDatabase database;
  database.put(entry("of another machine"));
  write_file(path(), database.text());
  TuningStore store(path(), true);
  const Engine engine = tuning_engine("off");
  ASSERT_TRUE(store.add({entry("new")}));
  EXPECT_EQ(parse(read_file(path()))->size(), 2u);
  TuningStore late(path(), true), later(path(), true);  // each has read two
  ASSERT_TRUE(late.add({entry("third")}));
  ASSERT_TRUE(later.add({entry("fourth")}));
  EXPECT_EQ(parse(read_file(path()))->size(), 4u) << "a writer keeps what others wrote meanwhile";
  write_file(path(), "no json");
  ASSERT_TRUE(later.add({entry("fifth")}));
  EXPECT_GE(parse(read_file(path()))->size(), 1u);
  for (const auto& file : std::filesystem::directory_iterator(folder_.path()))
    EXPECT_EQ(file.path().filename(), "tuning.json") << "nothing is left behind";
}

TEST_F(TuningFile, ManyWritersLoseNothing) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      TuningStore store(path(), true);
      for (int i = 0; i < 10; ++i) EXPECT_TRUE(store.add({entry(fmt::format("{} {}", t, i))}));
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(parse(read_file(path()))->size(), 40u);
}

TEST(ShippedTunings, Parse) {
  for (const std::string_view text : shipped_tunings()) {
    int64_t left_out = 0;
    EXPECT_TRUE(TuningDatabase::parse(text, left_out));
    EXPECT_EQ(left_out, 0);
  }
}

}  // namespace
}  // namespace tilewright::testing
