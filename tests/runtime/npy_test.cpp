#include "runtime/npy.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <fstream>

namespace tilewright {
namespace {

std::vector<char> file_of(const std::string& header, size_t data, int version = 1) {
  std::string out = "\x93NUMPY";
  out += static_cast<char>(version);
  out += '\0';
  out += static_cast<char>(header.size() & 255);
  out += static_cast<char>(header.size() >> 8);
  if (version == 2) out += std::string(2, '\0');
  out += header;
  out += std::string(data, '\0');
  return {out.begin(), out.end()};
}

std::string why(const Result<NpyArray>& result) { return result ? "read" : to_string(result.error()); }

TEST(Npy, WritesWhatItReads) {
  const std::string path = ::testing::TempDir() + "/tilewright_npy_test.npy";
  std::vector<float> values(6);
  for (size_t i = 0; i < 6; ++i) values[i] = static_cast<float>(i);
  TensorView view = TensorView::contiguous(values.data(), DType::f32, {3, 2});
  std::swap(view.shape[0], view.shape[1]);
  std::swap(view.strides[0], view.strides[1]);
  ASSERT_TRUE(write_npy(path, view));
  auto back = read_npy(path);
  ASSERT_TRUE(back) << why(back);
  EXPECT_EQ(back->shape, (std::vector<int64_t>{2, 3}));
  const float expected[] = {0, 2, 4, 1, 3, 5};
  EXPECT_EQ(std::memcmp(back->bytes.data(), expected, sizeof expected), 0);
  std::remove(path.c_str());
}

TEST(Npy, HonoursFortranOrder) {
  auto array = parse_npy("a.npy", file_of("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", 24));
  ASSERT_TRUE(array) << why(array);
  EXPECT_EQ(array->view().strides[0], 1);
  EXPECT_EQ(array->view().strides[1], 2);
}

TEST(Npy, ReadsVersionTwoScalarsAndEmptyArrays) {
  EXPECT_TRUE(parse_npy("a", file_of("{'descr': '<i8', 'fortran_order': False, 'shape': (), }\n", 8, 2)));
  EXPECT_TRUE(
      parse_npy("a", file_of("{'shape': (0, 9223372036854775807, 5), 'descr': '|b1', 'fortran_order': False}", 0)));
}

TEST(Npy, RefusesHostileFiles) {
  const auto says = [](const std::string& header, size_t data) {
    return why(parse_npy("a.npy", file_of(header, data)));
  };
  EXPECT_EQ(why(parse_npy("a.npy", {'P', 'K'})), "a.npy is no NPY file: it does not start with \\x93NUMPY");
  EXPECT_EQ(why(parse_npy("a.npy", file_of("", 0, 3))), "a.npy is NPY version 3; 1 and 2 can be read");
  EXPECT_EQ(says("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 23),
            "a.npy is truncated: its shape needs 24 bytes of data, 23 are there");
  EXPECT_EQ(says("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 25),
            "a.npy is too long: its shape needs 24 bytes of data, 25 are there");
  EXPECT_EQ(says("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }", 0),
            "a.npy has a shape whose size in bytes overflows 64 bits");
  EXPECT_EQ(says("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", 0),
            "a.npy has a header that is no array description (at character 69)");
  EXPECT_EQ(says("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", 0),
            "a.npy has a header that is no array description (at character 51)");
  EXPECT_EQ(says("{'descr': '<f4', 'shape': (1,), }", 4), "a.npy has no 'fortran_order' in its header");
  EXPECT_EQ(says("{'fortran_order': False, 'shape': (1,), }", 4), "a.npy has no dtype ('descr') in its header");
  EXPECT_EQ(says("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", 8),
            "a.npy has dtype '<c8'; f8 f4 f2 i8 i4 i1 (little-endian) and bool can be read");
  EXPECT_EQ(says("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", 4),
            "a.npy has a structured dtype; plain numbers are needed");
  EXPECT_EQ(says("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", 4),
            "a.npy has rank 9; at most 8 is supported");
  EXPECT_EQ(says("{'descr': '<f4', 'x': 1}", 4), "a.npy has the unexpected header key 'x'");
  EXPECT_NE(says("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)", 4), "read");
  EXPECT_NE(says("", 0), "read");
  std::vector<char> cut = file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 24);
  for (size_t size = 0; size < cut.size(); ++size)
    EXPECT_FALSE(parse_npy("a.npy", std::vector<char>(cut.begin(), cut.begin() + static_cast<std::ptrdiff_t>(size))));
}

}  // namespace
}  // namespace tilewright
