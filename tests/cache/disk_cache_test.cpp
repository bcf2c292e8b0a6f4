// The folder and its files: what is stored comes back, and nothing that happened to a file is ever believed.
#include "runtime/disk_cache.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <random>

#include "tests/support/temporary_folder.h"

namespace tilewright::testing {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(folder)) out.push_back(entry.path());
  return out;
}

/// What writers store: long enough for several write calls, a function of its key.
std::string payload_of(const std::string& key) {
  std::string out;
  std::mt19937_64 random(std::hash<std::string>{}(key));
  for (int i = 0; i < 3000; ++i) out += static_cast<char>(random());
  return out;
}

class DiskCacheTest : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
  std::string cache_dir_ = folder_.path() + "/cache";
  DiskCache cache_ = DiskCache::open(cache_dir_);
};

TEST_F(DiskCacheTest, GivesBackWhatWasStored) {
  ASSERT_TRUE(cache_.usable()) << cache_.warning();
  EXPECT_FALSE(cache_.find("a").payload);
  EXPECT_TRUE(cache_.store("a", std::string("x\0y", 3)));
  EXPECT_TRUE(cache_.store("", ""));
  EXPECT_EQ(cache_.find("a").payload, std::string("x\0y", 3));
  EXPECT_EQ(cache_.find("").payload, "");
  EXPECT_TRUE(cache_.store("a", "new"));
  EXPECT_EQ(DiskCache::open(cache_dir_).find("a").payload, "new");
  EXPECT_EQ(files_in(cache_dir_).size(), 2u);
  for (const fs::path& file : files_in(cache_dir_)) {
    struct stat info{};
    ASSERT_EQ(stat(file.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
  }
}

TEST_F(DiskCacheTest, EveryTruncationIsAMiss) {
  cache_.store("key", payload_of("key").substr(0, 300));
  const fs::path file = files_in(cache_dir_).at(0);
  const std::string whole = read_file(file);
  for (size_t size = 0; size < whole.size(); ++size) {
    write_file(file, whole.substr(0, size));
    const auto found = cache_.find("key");
    ASSERT_FALSE(found.payload) << size;
    ASSERT_FALSE(found.problem.empty()) << size;
  }
  write_file(file, whole + '\0');
  EXPECT_FALSE(cache_.find("key").payload);
  write_file(file, whole);
  EXPECT_TRUE(cache_.find("key").payload);
}

TEST_F(DiskCacheTest, EveryFlippedBitIsAMiss) {
  cache_.store("key", "a payload");
  const fs::path file = files_in(cache_dir_).at(0);
  const std::string whole = read_file(file);
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    write_file(file, damaged);
    ASSERT_FALSE(cache_.find("key").payload) << bit;
  }
}

TEST_F(DiskCacheTest, AnEntryUnderAnotherNameIsAMiss) {
  cache_.store("one", "1");
  const fs::path one = files_in(cache_dir_).at(0);
  cache_.store("two", "2");
  for (const fs::path& file : files_in(cache_dir_))
    if (file != one) fs::copy_file(one, file, fs::copy_options::overwrite_existing);
  EXPECT_FALSE(cache_.find("two").payload);
  EXPECT_TRUE(cache_.find("two").problem.ends_with("it holds another key")) << cache_.find("two").problem;
  EXPECT_EQ(cache_.find("one").payload, "1");
}

TEST_F(DiskCacheTest, LinksAndFoldersAreNoEntries) {
  cache_.store("key", "value");
  const fs::path file = files_in(cache_dir_).at(0);
  fs::rename(file, folder_.path() + "/elsewhere");
  fs::create_symlink(folder_.path() + "/elsewhere", file);
  EXPECT_FALSE(cache_.find("key").payload);
  fs::remove(file);
  fs::create_directory(file);
  EXPECT_FALSE(cache_.find("key").payload);
  EXPECT_FALSE(cache_.store("key", "value"));  // cannot take its place, and says so
  fs::remove(file);
  ASSERT_EQ(mkfifo(file.c_str(), 0600), 0);  // must not wait for a writer
  EXPECT_FALSE(cache_.find("key").payload);
}

TEST_F(DiskCacheTest, FoldersThatOthersCanEnterAreNotUsed) {
  fs::permissions(cache_dir_, fs::perms(0755));
  const DiskCache open = DiskCache::open(cache_dir_);
  EXPECT_FALSE(open.usable());
  EXPECT_NE(open.warning().find("mode 755"), std::string::npos) << open.warning();
  EXPECT_FALSE(open.store("a", "b"));
  const std::string link = folder_.path() + "/link";
  fs::permissions(cache_dir_, fs::perms(0700));
  fs::create_directory_symlink(cache_dir_, link);
  EXPECT_NE(DiskCache::open(link).warning().find("is no folder"), std::string::npos);
  write_file(folder_.path() + "/file", "");
  EXPECT_FALSE(DiskCache::open(folder_.path() + "/file").usable());
  EXPECT_FALSE(DiskCache::open(folder_.path() + "/file/below").usable());
  EXPECT_TRUE(DiskCache::open("").warning().empty());  // off because nobody wants one
  if (geteuid() == 0) {
    ASSERT_EQ(chown(cache_dir_.c_str(), 12345, 12345), 0);
    EXPECT_NE(DiskCache::open(cache_dir_).warning().find("belongs to user 12345"), std::string::npos);
  }
}

TEST_F(DiskCacheTest, AFolderThatVanishesIsAMiss) {
  cache_.store("a", "b");
  fs::remove_all(cache_dir_);
  EXPECT_FALSE(cache_.find("a").payload);
  EXPECT_FALSE(cache_.store("a", "b"));
  EXPECT_TRUE(cache_.list(true).empty());
}

TEST_F(DiskCacheTest, StaysUnderItsLimitByDroppingWhatWasUsedLongestAgo) {
  const DiskCache small = DiskCache::open(cache_dir_, 20000);
  for (int i = 0; i < 30; ++i) {
    const std::string key = std::to_string(i);
    ASSERT_TRUE(small.store(key, payload_of(key)));
    int64_t bytes = 0;
    for (const DiskCacheEntry& entry : small.list(false)) bytes += entry.bytes;
    ASSERT_LE(bytes, 20000);
    usleep(2000);  // a clock tick apart
  }
  EXPECT_TRUE(small.find("29").payload);
  EXPECT_FALSE(small.find("0").payload);
  EXPECT_FALSE(small.store("huge", std::string(30000, 'x')));
  EXPECT_TRUE(small.find("29").payload);
}

TEST_F(DiskCacheTest, PruneRemovesDamageAndWhatDeadWritersLeft) {
  cache_.store("good", "1");
  cache_.store("bad", "2");
  const std::string old = cache_dir_ + "/.tmp-1-2-3", young = cache_dir_ + "/.tmp-1-2-4";
  write_file(old, "half");
  write_file(young, "half");
  fs::last_write_time(old, fs::file_time_type::clock::now() - std::chrono::hours(2));
  for (const DiskCacheEntry& entry : cache_.list(true))
    if (entry.key == "bad") write_file(cache_dir_ + "/" + entry.file, "nonsense");
  EXPECT_EQ(cache_.prune(1 << 20), 2);
  EXPECT_FALSE(fs::exists(old));
  EXPECT_TRUE(fs::exists(young));
  EXPECT_TRUE(cache_.find("good").payload);
  EXPECT_EQ(cache_.prune(0), 1);
  EXPECT_FALSE(cache_.find("good").payload);
}

// 200 writers are killed wherever they happen to be; what a reader then finds is right or not there.
TEST_F(DiskCacheTest, KilledWritersLeaveNothingWrong) {
  std::mt19937 random(1);
  int stored = 0;
  for (int round = 0; round < 200; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (int i = 0;; ++i) {
        const std::string key = "key " + std::to_string((round + i) % 20);
        cache_.store(key, payload_of(key));
      }
    }
    usleep(random() % 4000 + (stored == 0 ? 1000 * round : 0));  // a busy machine may not start the child any sooner
    kill(child, SIGKILL);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    for (int i = 0; i < 20; ++i) {
      const std::string key = "key " + std::to_string(i);
      const auto found = cache_.find(key);
      ASSERT_TRUE(found.problem.empty()) << found.problem;
      if (!found.payload) continue;
      ASSERT_EQ(*found.payload, payload_of(key));
      ++stored;
    }
  }
  EXPECT_GT(stored, 0);
}

TEST_F(DiskCacheTest, AFullDiskIsNoError) {
  // The limit on file sizes stands in for a full disk: write() fails half-way.
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit tiny{1000, 1000};
    setrlimit(RLIMIT_FSIZE, &tiny);
    const bool refused = !cache_.store("big", payload_of("big")) && cache_.store("small", "x");
    _exit(refused && files_in(cache_dir_).size() == 1 ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace tilewright::testing
