// Safetensors: what is written reads back; hostile files are refused by name and number.
#include "layers/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

namespace tilewright {
namespace {

std::vector<char> file_of(const std::string& header, size_t data, std::optional<uint64_t> length = {}) {
  const uint64_t declared = length.value_or(header.size());
  std::vector<char> out(8);
  std::memcpy(out.data(), &declared, 8);
  out.insert(out.end(), header.begin(), header.end());
  out.resize(out.size() + data, 1);
  return out;
}

std::string message(std::vector<char> bytes) {
  const auto parsed = parse_safetensors("f", std::move(bytes));
  return parsed ? "" : to_string(parsed.error());
}
std::string message(const std::string& header, size_t data) { return message(file_of(header, data)); }

TEST(Safetensors, AllDtypesReadBack) {
  std::vector<double> f64 = {1.5, -2, 3, 4, 5, 6};
  std::vector<float> f32 = {7, 8};
  std::vector<uint16_t> bf16 = {0x3f80};
  std::vector<int64_t> i64 = {int64_t{1} << 60};
  std::vector<int8_t> i8 = {-3, 4};
  std::vector<uint8_t> flags = {1, 0, 1};
  TensorView turned = TensorView::contiguous(f64.data(), DType::f64, {3, 2});
  std::swap(turned.strides[0], turned.strides[1]);  // columns first
  std::swap(turned.shape[0], turned.shape[1]);
  const std::vector<NamedTensor> tensors = {{"a.weight", turned},
                                            {"b", TensorView::contiguous(f32.data(), DType::f32, {2})},
                                            {"c", TensorView::contiguous(bf16.data(), DType::bf16, {1, 1})},
                                            {"d", TensorView::contiguous(i64.data(), DType::i64, {})},
                                            {"e\n\"", TensorView::contiguous(i8.data(), DType::i8, {2})},
                                            {"f", TensorView::contiguous(flags.data(), DType::boolean, {3})},
                                            {"g", TensorView::contiguous(nullptr, DType::f32, {0, 5})}};
  auto bytes = format_safetensors(tensors, {{"format", "pt"}});
  ASSERT_TRUE(bytes);
  auto parsed = parse_safetensors("f", *bytes);
  ASSERT_TRUE(parsed) << to_string(parsed.error());
  EXPECT_EQ(parsed->metadata.at("format"), "pt");
  ASSERT_EQ(parsed->entries.size(), tensors.size());
  const TensorView a = parsed->view(parsed->entries.at("a.weight"));
  EXPECT_EQ(a.shape[0], 2);
  EXPECT_EQ(a.shape[1], 3);
  const auto* values = static_cast<const double*>(a.data);
  EXPECT_EQ(std::vector<double>(values, values + 6), (std::vector<double>{1.5, 3, 5, -2, 4, 6}));
  EXPECT_EQ(*static_cast<const int64_t*>(parsed->view(parsed->entries.at("d")).data), i64[0]);
  EXPECT_EQ(parsed->entries.at("e\n\"").shape, (std::vector<int64_t>{2}));
  EXPECT_EQ(parsed->entries.at("g").shape, (std::vector<int64_t>{0, 5}));
}

TEST(Safetensors, TensorsOfOtherWritersAreAligned) {
  auto parsed = parse_safetensors("f", file_of(R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},)"
                                               R"("b":{"dtype":"I64","shape":[2],"data_offsets":[1,17]}})",
                                               17));
  ASSERT_TRUE(parsed) << to_string(parsed.error());
  const auto* b = static_cast<const int64_t*>(parsed->view(parsed->entries.at("b")).data);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b) % 8, 0U);
  EXPECT_EQ(b[0], 0x0101010101010101);
  EXPECT_EQ(b[1], b[0]);
}

TEST(Safetensors, EveryTruncationIsAnError) {
  std::vector<float> values = {1, 2, 3, 4};
  const auto bytes = format_safetensors({{"w", TensorView::contiguous(values.data(), DType::f32, {2, 2})}});
  ASSERT_TRUE(bytes);
  for (size_t size = 0; size < bytes->size(); ++size)
    EXPECT_NE(message(std::vector<char>(bytes->begin(), bytes->begin() + static_cast<long>(size))), "") << size;
  EXPECT_EQ(message(*bytes), "");
}

TEST(Safetensors, RandomDamageNeverReadsOutside) {
  std::vector<float> values(16);
  const auto bytes = format_safetensors({{"w", TensorView::contiguous(values.data(), DType::f32, {2, 2})},
                                         {"v", TensorView::contiguous(values.data(), DType::f32, {12})}});
  ASSERT_TRUE(bytes);
  std::mt19937_64 random(7);
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<char> damaged = *bytes;
    for (int i = 0; i < 2; ++i) damaged[random() % (bytes->size() - 64)] = static_cast<char>(random());
    auto parsed = parse_safetensors("f", damaged);
    refused += !parsed;
    if (!parsed) continue;
    int64_t bytes_seen = 0;
    for (const auto& [name, entry] : parsed->entries) {
      const TensorView view = parsed->view(entry);
      bytes_seen += view.element_count() * size_of(view.dtype);
      ASSERT_LE(entry.end, static_cast<int64_t>(parsed->data.size()));
    }
    ASSERT_EQ(bytes_seen, static_cast<int64_t>(parsed->data.size()));
  }
  EXPECT_GT(refused, 1500);
}

TEST(Safetensors, HostileHeadersAreNamed) {
  EXPECT_EQ(message({}), "f has 0 bytes; the header's length alone takes 8");
  EXPECT_EQ(message(file_of("{}", 0, UINT64_MAX)),
            "f declares a header of 18446744073709551615 bytes, over the limit of 104857600");
  EXPECT_EQ(message(file_of("{}", 0, 3)), "f declares a header of 3 bytes, but 2 follow");
  EXPECT_EQ(message(file_of("{}", 0, 0)), "f has a header that does not begin with '{'");
  EXPECT_EQ(message("{\"a\"", 0), "f has a header that is no JSON");
  EXPECT_EQ(message("{" + std::string(100000, '['), 0), "f has a header that is no JSON");
  EXPECT_EQ(message("{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}", 0),
            "f gives tensor 'a' no dtype");
  EXPECT_EQ(message("{}", 4), "f has 4 bytes of data, but its tensors end at byte 0");
  EXPECT_EQ(message("{}", 0), "");
  const auto one = [](const std::string& fields) { return message("{\"w\":{" + fields + "}}", 8); };
  EXPECT_EQ(one(R"("shape":[2],"data_offsets":[0,8])"), "f gives tensor 'w' no dtype");
  EXPECT_EQ(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1)"),
            "f gives tensor 'w' 4 fields instead of dtype, shape, data_offsets");
  EXPECT_EQ(one(R"("dtype":"F32","dtype":"F64","shape":[2],"data_offsets":[0,8])"),
            "f names 'dtype' twice in its header");
  const char* const kF32 = "\"F32\"";
  const auto fields = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return "\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets;
  };
  const auto says = [&](const char* dtype, const char* shape, const char* offsets, const char* sentence) {
    EXPECT_EQ(one(fields(dtype, shape, offsets)), std::string("f ") + sentence);
  };
  says(R"("U8")", "[8]", "[0,8]",
       "gives tensor 'w' the dtype 'U8'; F64, F32, F16, BF16, I64, I32, I8 and BOOL are read");
  says("1", "[2]", "[0,8]", "gives tensor 'w' a dtype that is no string");
  says(kF32, "[-2]", "[0,8]", "gives tensor 'w' a shape with an axis that is no size");
  says(kF32, "[2.0]", "[0,8]", "gives tensor 'w' a shape with an axis that is no size");
  says(kF32, "[4294967296,4294967296]", "[0,8]", "gives tensor 'w' a shape whose size overflows");
  says(kF32, "[1,1,1,1,1,1,1,1,2]", "[0,8]", "gives tensor 'w' 9 axes; 8 are supported");
  says(kF32, "[2]", "[0,18446744073709551615]", "gives tensor 'w' data_offsets that are no pair of positions");
  says(kF32, "[2]", "[0]", "gives tensor 'w' data_offsets that are no pair of positions");
  says(kF32, "[2]", "[8,0]", "places tensor 'w' at bytes 8 to 0 of 8 bytes of data");
  says(kF32, "[2]", "[0,12]", "places tensor 'w' at bytes 0 to 12 of 8 bytes of data");
  says(kF32, "[3]", "[0,8]", "places tensor 'w' at bytes 0 to 8, which is 8 bytes, but F32[3] takes 12");
  says(kF32, "[1]", "[4,8]", "has bytes 0 to 4 of its data belong to no tensor");
  EXPECT_EQ(message(R"({"__metadata__":{"a":1}})", 0), "f has __metadata__ whose 'a' is no string");
  const auto pair = [&](const std::string& name, const std::string& offsets, size_t data) {
    return message(
        "{\"a\":{" + fields(kF32, "[2]", "[0,8]") + "},\"" + name + "\":{" + fields(kF32, "[2]", offsets) + "}}", data);
  };
  EXPECT_EQ(pair("b", "[4,12]", 12), "f has tensor 'b' overlap tensor 'a': it begins at byte 4, before byte 8");
  EXPECT_EQ(pair("a", "[0,8]", 8), "f names 'a' twice in its header");
}

TEST(Safetensors, NamesAreUnique) {
  float value = 1;
  const TensorView view = TensorView::contiguous(&value, DType::f32, {1});
  EXPECT_EQ(to_string(format_safetensors({{"a", view}, {"a", view}}).error()), "two tensors are named 'a'");
  EXPECT_EQ(to_string(format_safetensors({{"", view}}).error()), "a tensor cannot be named ''");
  EXPECT_EQ(to_string(format_safetensors({{"__metadata__", view}}).error()), "a tensor cannot be named '__metadata__'");
}

TEST(Safetensors, FilesAreReplacedWhole) {
  const std::string path = ::testing::TempDir() + "/tilewright_safetensors_test";
  float value = 1;
  const TensorView view = TensorView::contiguous(&value, DType::f32, {1});
  ASSERT_TRUE(write_safetensors(path, {{"a", view}}));
  EXPECT_FALSE(write_safetensors(path, {{"a", view}, {"a", view}}));
  const auto back = read_safetensors(path);
  ASSERT_TRUE(back) << to_string(back.error());
  EXPECT_EQ(back->entries.count("a"), 1u);
  EXPECT_FALSE(std::filesystem::exists(path + ".part"));
  std::filesystem::remove(path);
  const auto missing = read_safetensors(path);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().list[0].kind, ErrorKind::io);
  EXPECT_FALSE(write_safetensors(::testing::TempDir() + "/no/such/folder/f", {{"a", view}}));
}

}  // namespace
}  // namespace tilewright
