// safetensors: the bytes are as the format says, everything comes back, and no damage goes unnoticed.
#include "runs/tensors/safetensors.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error_text.h"
#include "data/temp_folder.h"
#include "kernels/types/bf16.h"
#include "train/failures.h"
#include "train/tensors.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

TestTensors small_model(int seed = 1) {
  TestTensors out;
  out.add("half", DType::kBF16, {3}, seed);
  out.add("head.weight", DType::kF32, {2, 3}, seed + 1);
  out.add("exact", DType::kF64, {1, 2, 1, 2}, seed + 2);
  out.add("scalar", DType::kI32, {}, seed + 3);
  out.add("empty", DType::kF32, {0, 4}, 0);
  return out;
}

// A file with any header, right or wrong, and `data_bytes` of zeros.
std::string write_raw(const TempFolder& folder, const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  return folder.write("raw.safetensors", bytes + header + std::string(data_bytes, '\0'));
}

std::string problem_of(const std::string& path) {
  return message_of<CheckpointDamaged>([&] { SafetensorsFile file(path); });
}

TEST(Safetensors, BytesAreAsTheFormatSays) {
  const TempFolder folder;
  const float values[6] = {1, 2, 3, 4, 5, 6};
  const int32_t step = 7;
  const std::vector<NamedTensor> tensors = {{"w", Tensor(const_cast<float*>(values), DType::kF32, {2, 3})},
                                            {"step", Tensor(const_cast<int32_t*>(&step), DType::kI32, {1})}};
  const FileSum sum = write_safetensors(folder.file("a"), tensors, {{"format", "pt"}});

  std::string header = R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                       R"("step":{"dtype":"I32","shape":[1],"data_offsets":[24,28]}})";
  while (header.size() % 8 != 0) header += ' ';
  std::string expected = {char(header.size()), 0, 0, 0, 0, 0, 0, 0};
  ASSERT_LT(header.size(), 256u);
  expected += header;
  expected.append(reinterpret_cast<const char*>(values), sizeof values);
  expected.append(reinterpret_cast<const char*>(&step), sizeof step);

  EXPECT_EQ(read_file(folder.file("a")), expected);
  EXPECT_EQ(sum, (FileSum{expected.size(), checksum_of(expected)}));
  EXPECT_EQ(safetensors_bytes(tensors, {{"format", "pt"}}), expected.size());
}

TEST(Safetensors, EverythingComesBack) {
  const TempFolder folder;
  const TestTensors written = small_model();
  write_safetensors(folder.file("a"), written.list(), {{"note", "\"quoted\" \n"}});
  TestTensors read = small_model(99);
  const SafetensorsFile file(folder.file("a"));
  file.load_into(read.list());
  EXPECT_TRUE(read.same_values(written));
  EXPECT_EQ(file.metadata().at("note"), "\"quoted\" \n");
  EXPECT_EQ(file.find("exact")->shape, (Shape{1, 2, 1, 2}));
  EXPECT_EQ(file.find("nothing"), nullptr);
  for (const StoredTensor& tensor : file.tensors()) {
    EXPECT_EQ(tensor.offset % size_of(*tensor.dtype), 0u) << tensor.name << " is not aligned";
  }
}

TEST(Safetensors, NoTensorsIsAFileToo) {
  const TempFolder folder;
  write_safetensors(folder.file("a"), {});
  const SafetensorsFile file(folder.file("a"));
  EXPECT_TRUE(file.tensors().empty());
  file.load_into({});
}

TEST(Safetensors, AnyCutIsNoticed) {
  const TempFolder folder;
  const std::string path = folder.file("a");
  const uint64_t whole = write_safetensors(path, small_model().list()).bytes;
  fs::resize_file(path, whole + 1);
  EXPECT_THROW(SafetensorsFile{path}, CheckpointDamaged);
  fs::resize_file(path, whole);
  EXPECT_NO_THROW(SafetensorsFile{path});
  for (uint64_t bytes = whole; bytes-- > 0;) {
    fs::resize_file(path, bytes);
    EXPECT_THROW(SafetensorsFile{path}, CheckpointDamaged) << bytes;
  }
}

TEST(Safetensors, DamagedHeadersSayWhatIsWrong) {
  const TempFolder folder;
  const auto header = [](const std::string& entry) { return R"({"w":)" + entry + "}"; };
  const auto problem = [&](const std::string& text, size_t bytes) {
    return problem_of(write_raw(folder, text, bytes));
  };
  const std::string good = R"({"dtype":"F32","shape":[2,3],"data_offsets":[0,24]})";
  EXPECT_NO_THROW(SafetensorsFile(write_raw(folder, header(good), 24)));

  expect_contains(problem(header(good), 23), {"raw.safetensors", "describes"});
  expect_contains(problem(header(good), 25), {"describes"});
  expect_contains(problem("not JSON", 0), {"raw.safetensors"});
  expect_contains(problem("[]", 0), {"not an object"});
  expect_contains(problem(header("3"), 0), {"tensor w", "not an object"});
  expect_contains(problem(header(R"({"shape":[1],"data_offsets":[0,4]})"), 4), {"no dtype"});
  expect_contains(problem(header(R"({"dtype":"F32","data_offsets":[0,4]})"), 4), {"no shape"});
  expect_contains(problem(header(R"({"dtype":"F32","shape":[1]})"), 4), {"no data_offsets"});
  expect_contains(problem(header(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})"), 4), {"-1", "shape"});
  expect_contains(problem(header(R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})"), 4), {"1.0", "shape"});
  expect_contains(problem(header(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})"), 4), {"[begin, end]"});
  expect_contains(problem(header(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4,8]})"), 8), {"[begin, end]"});
  expect_contains(problem(header(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})"), 4), {"4 bytes", "need 8"});
  expect_contains(problem(header(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})"), 8), {"begins at byte"});
  // 2^32 * 2^32 elements are 0 modulo 2^64.
  expect_contains(problem(header(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})"), 0),
                  {"beyond any file"});
  expect_contains(problem(R"({"a":)" + good + R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":[16,24]}})", 24),
                  {"tensor b begins"});
  expect_contains(problem(R"({"w":)" + good + R"(,"w":)" + good + "}", 24), {"w"});
  expect_contains(problem(R"({"__metadata__":{"step":1}})", 0), {"__metadata__.step"});
}

TEST(Safetensors, AHeaderLengthBeyondTheFileIsNoticed) {
  const TempFolder folder;
  for (const uint64_t length : {uint64_t{100}, uint64_t{1} << 62, ~uint64_t{0}}) {
    const std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
    expect_contains(problem_of(folder.write("a", bytes + "{}      ")), {"header should have"});
  }
}

TEST(Safetensors, WhatSluiceDoesNotReadIsSaid) {
  const TempFolder folder;
  const auto problem = [&](const std::string& text, size_t bytes) {
    return message_of<UserError>([&] { SafetensorsFile file(write_raw(folder, text, bytes)); });
  };
  expect_contains(problem(R"({"w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})", 1), {"F8_E4M3", "BF16"});
  expect_contains(problem(R"({"w":{"dtype":"F32","shape":[1,1,1,1,1],"data_offsets":[0,4]}})", 4), {"5 dimensions"});
}

TEST(Safetensors, OtherTypesOpenAndNumbersAreReadAsFloats) {
  const TempFolder folder;
  // 1, -2, 65504, the smallest subnormal 2^-24, infinity, 1/3 rounded: as IEEE 754 has them in 16 bits.
  const uint16_t half[] = {0x3c00, 0xc000, 0x7bff, 0x0001, 0x7c00, 0x3555};
  const std::string header =
      R"({"half":{"dtype":"F16","shape":[3,2],"data_offsets":[0,12]},"mask":{"dtype":"BOOL","shape":[2],"data_offsets":[12,14]}})";
  const std::string path = write_raw(folder, header, 14);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-14, std::ios::end);
    file.write(reinterpret_cast<const char*>(half), sizeof half);
  }
  const SafetensorsFile file(path);
  EXPECT_EQ(file.find("half")->dtype, std::nullopt);
  EXPECT_EQ(file.find("half")->type, "F16");
  std::vector<float> values(6);
  file.read_floats(*file.find("half"), 0, 3, values.data());
  EXPECT_EQ(values, (std::vector<float>{1, -2, 65504, 0x1p-24f, INFINITY, 0x1.554p-2f}));
  std::vector<float> middle(2);
  file.read_floats(*file.find("half"), 1, 1, middle.data());
  EXPECT_EQ(middle, (std::vector<float>{65504, 0x1p-24f}));
  expect_contains(message_of<UserError>([&] { file.read_floats(*file.find("mask"), 0, 2, values.data()); }),
                  {"mask [2] is BOOL", "F16"});
  TestTensors target;
  target.add("half", DType::kF32, {3, 2}, 0);
  expect_contains(message_of<UserError>([&] { file.load_into(target.list(), SafetensorsFile::Others::kIgnore); }),
                  {"half [3,2] is F16, but F32"});
}

TEST(Safetensors, FloatsOfEveryTypeAndInPieces) {
  const TempFolder folder;
  constexpr int64_t kRows = 700, kColumns = 1000;  // more than one piece
  std::vector<float> values(size_t(kRows * kColumns));
  std::vector<double> wide(values.size());
  std::vector<Bf16> narrow(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    narrow[i] = to_bf16(float(i) * 0.37f);
    wide[i] = values[i] = to_float(narrow[i]);
  }
  const Shape shape = {kRows, kColumns};
  write_safetensors(folder.file("a"), std::vector<NamedTensor>{{"f32", Tensor(values.data(), DType::kF32, shape)},
                                                               {"f64", Tensor(wide.data(), DType::kF64, shape)},
                                                               {"bf16", Tensor(narrow.data(), DType::kBF16, shape)}});
  const SafetensorsFile file(folder.file("a"));
  for (const char* name : {"f32", "f64", "bf16"}) {
    std::vector<float> read(values.size() - size_t(kColumns));
    file.read_floats(*file.find(name), 1, kRows - 1, read.data());
    EXPECT_TRUE(std::equal(read.begin(), read.end(), values.begin() + kColumns)) << name;
  }
}

TEST(Safetensors, AWriterThatIsGivenTooLittleLeavesNoFile) {
  const TempFolder folder;
  const auto write = [&](size_t bytes) {
    SafetensorsWriter writer(folder.file("a"), {{"w", "F16", {2, 3}}}, {});
    const std::vector<char> data(bytes);
    writer.write(data.data(), data.size());
    writer.finish();
  };
  EXPECT_THROW(write(11), std::logic_error);
  EXPECT_THROW(write(13), std::logic_error);
  EXPECT_FALSE(fs::exists(folder.file("a")));
  write(12);
  EXPECT_EQ(SafetensorsFile(folder.file("a")).find("w")->bytes, 12u);
}

TEST(Safetensors, AnotherModelIsNamedAndNothingIsRead) {
  const TempFolder folder;
  const TestTensors written = small_model();
  write_safetensors(folder.file("a"), written.list());
  const SafetensorsFile file(folder.file("a"));
  const auto problem = [&](const TestTensors& targets) {
    return message_of<UserError>([&] { file.load_into(targets.list()); });
  };

  TestTensors other_shape;
  other_shape.add("exact", DType::kF64, {1, 2, 1, 2}, 50);
  other_shape.add("head.weight", DType::kF32, {3, 2}, 50);
  expect_contains(problem(other_shape), {"head.weight", "[2,3]", "[3,2]", "the checkpoint is of another model"});
  TestTensors untouched;
  untouched.add("exact", DType::kF64, {1, 2, 1, 2}, 50);
  untouched.add("head.weight", DType::kF32, {3, 2}, 50);
  EXPECT_TRUE(other_shape.same_values(untouched)) << "the tensor before the wrong one was filled";

  TestTensors one_more = small_model();
  one_more.add("attention.gate", DType::kF32, {5}, 0);
  expect_contains(problem(one_more), {"no tensor attention.gate [5]", "another model"});

  TestTensors other_type;
  other_type.add("head.weight", DType::kF64, {2, 3}, 0);
  expect_contains(problem(other_type), {"head.weight", "F32", "F64"});

  TestTensors fewer;
  fewer.add("half", DType::kBF16, {3}, 0);
  expect_contains(problem(fewer), {"not expected", "another model"});
  EXPECT_NO_THROW(file.load_into(fewer.list(), SafetensorsFile::Others::kIgnore));
}

TEST(Safetensors, AFullDiskLeavesNoFile) {
  const TempFolder folder;
  TestTensors large;
  large.add("w", DType::kF32, {1024, 1024}, 1);
  const FileSizeLimit limit(1 << 20);
  const std::string message = message_of<RunError>([&] { write_safetensors(folder.file("a"), large.list()); });
  expect_contains(message, {"File too large", folder.file("a")});
  EXPECT_FALSE(fs::exists(folder.file("a")));
}

TEST(Safetensors, ATensorThatIsNotContiguousIsABug) {
  const TempFolder folder;
  std::vector<float> values(12);
  const Tensor slice = Tensor(values.data(), DType::kF32, {3, 4}).columns(0, 2);
  EXPECT_THROW(write_safetensors(folder.file("a"), std::vector<NamedTensor>{{"w", slice}}), std::logic_error);
  const std::vector<NamedTensor> twice = {{"w", Tensor(values.data(), DType::kF32, {12})},
                                          {"w", Tensor(values.data(), DType::kF32, {12})}};
  EXPECT_THROW(write_safetensors(folder.file("a"), twice), std::logic_error);
}

}  // namespace
}  // namespace sluice
