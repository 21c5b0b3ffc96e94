// What files of text may be packed in and begin with, and what is refused by its name.
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/utf8.h"
#include "data/packed_text.h"
#include "data/temp_folder.h"
#include "data/text/document_reader.h"

namespace sluice {
namespace {

std::vector<std::string> documents_of(const std::string& path, TextOptions options = {}) {
  DocumentReader reader({path}, std::move(options));
  std::vector<std::string> documents;
  for (std::string document; reader.next(document);) documents.push_back(document);
  return documents;
}

std::string error_of(const std::string& path, TextOptions options = {}) {
  return message_of<UserError>([&] { documents_of(path, options); });
}

std::string skippable(size_t size) {
  std::string frame("\x5A\x2A\x4D\x18", 4);
  for (int shift = 0; shift < 32; shift += 8) frame += char(size >> shift);
  return frame + std::string(size, 'x');
}

TEST(PackedText, MembersFramesPaddingAndNothing) {
  TempFolder folder;
  const std::string zeros(3000, '\0');
  const auto one = [&](const std::string& bytes) {
    const auto documents = documents_of(folder.write("packed", bytes));
    EXPECT_LE(documents.size(), 1u);
    return documents.empty() ? "" : documents[0];
  };
  EXPECT_EQ(one(gzip("one") + zeros), "one");
  EXPECT_EQ(one(gzip("one") + gzip("") + gzip("two") + gzip("")), "onetwo");
  EXPECT_EQ(one(gzip("one") + zeros + gzip("two")), "onetwo") << "as Python's gzip reads it";
  EXPECT_EQ(one(gzip("")), "");
  EXPECT_EQ(one(zstd("")), "");
  EXPECT_EQ(one(zstd("one") + zstd("") + zstd("two")), "onetwo");
  EXPECT_EQ(one(skippable(0) + zstd("one") + skippable(300'000) + zstd("two") + skippable(5)), "onetwo");
  EXPECT_EQ(one(skippable(7)), "");
}

TEST(PackedText, CutAnywhereIsRefused) {
  TempFolder folder;
  const std::string text = "some text that is packed, some text that is cut";
  for (const auto& pack : {zstd, gzip}) {
    const std::string packed = pack(text), rest = pack("and more");
    for (size_t size = 4; size < packed.size(); ++size) {
      EXPECT_NE(error_of(folder.write("cut", packed.substr(0, size))).find("is cut off"), std::string::npos) << size;
    }
    for (size_t size = 1; size < rest.size(); ++size) {
      EXPECT_NE(error_of(folder.write("cut", packed + rest.substr(0, size))).find("is cut off"), std::string::npos)
          << size;
    }
    EXPECT_NE(error_of(folder.write("more", packed + "other bytes")).find("is damaged or of a kind"),
              std::string::npos);
  }
}

TEST(PackedText, ANameThatPromisesPackedBytes) {
  TempFolder folder;
  for (const char* name : {"a.gz", "a.txt.GZ", "a.jsonl.zst"}) {
    EXPECT_NE(error_of(folder.write(name, "<html>not found</html>")).find("but it does not begin so"),
              std::string::npos);
    EXPECT_NE(error_of(folder.write(name, "")).find("but it is empty"), std::string::npos);
  }
  EXPECT_EQ(documents_of(folder.write("b.gz", zstd("text"))), std::vector<std::string>{"text"});
}

TEST(PackedText, AByteOrderMarkIsNoText) {
  TempFolder folder;
  const std::string mark(kByteOrderMark), text = mark + "first\r\n" + mark + "second";
  const std::vector<std::string> expected{"first\r\n" + mark + "second"};
  EXPECT_EQ(documents_of(folder.write("a", text)), expected);
  EXPECT_EQ(documents_of(folder.write("a", gzip(text))), expected);
  EXPECT_EQ(documents_of(folder.write("a", zstd(text))), expected);
  EXPECT_EQ(documents_of(folder.write("a", mark)), std::vector<std::string>{});
  const std::string line = "{\"text\": \"\xEF\xBB\xBFx\"}\n";  // inside a string it is the text's
  EXPECT_EQ(documents_of(folder.write("a.jsonl", mark + line + mark + line)),
            (std::vector<std::string>{mark + "x", mark + "x"}));
  TextOptions options;
  options.separator = "--";
  EXPECT_EQ(
      documents_of(folder.write("a", mark + "--\r\none\n" + mark + "--\n" + mark + "two " + mark + "\n"), options),
      (std::vector<std::string>{"one\n", "two " + mark + "\n"}));
  options.split_bytes = 4;
  EXPECT_EQ(documents_of(folder.write("a", mark + "ab\n" + mark + "\n--\n" + mark + "cd\n"), options),
            (std::vector<std::string>{"ab\n", mark + "\n", "cd\n"}));
}

std::string wide(const std::string& text, size_t width, bool big) {
  std::string bytes;
  for (const char c : text) {
    std::string unit(width, '\0');
    unit[big ? width - 1 : 0] = c;
    bytes += unit;
  }
  return bytes;
}

TEST(ForeignFiles, AreNamedWithWhatReadsThem) {
  TempFolder folder;
  using std::string_literals::operator""s;
  const struct {
    std::string bytes, what, reader;
  } cases[] = {
      {"\xFD"
       "7zXZ\0\0\4"s,
       "packed with xz", "`xz -dc PATH | sluice"},
      {"BZh91AY&SY\x8e\0"s, "packed with bzip2", "`bzip2 -dc PATH |"},
      {"\x04\x22\x4D\x18\x64\x40"s, "packed with lz4", "`lz4 -dc PATH |"},
      {"PK\x03\x04\x14\0"s, "a zip archive", "unpack it"},
      {"7z\xBC\xAF\x27\x1C\0\4"s, "a 7z archive", "unpack it"},
      {"file.txt"s + std::string(249, '\0') + "ustar\00000"s, "a tar archive", "unpack it"},
      {"PAR1\x15\x04\x15"s, "a Parquet file", "`scripts/from_parquet PATH |"},
      {"ARROW1\0\0"s, "an Arrow file", "`scripts/from_parquet PATH |"},
      {"\x93NUMPY\1\0"s, "a numpy array", "data.shard_format"},
      {"\x80\x04\x95\x1B\0"s, "a Python pickle", "extract"},
      {"\x89HDF\r\n\x1A\n"s, "an HDF5 file", "extract"},
      {"SQLite format 3\0"s, "an SQLite database", "extract"},
      {"\x40\0\0\0\0\0\0\0{\"a\":1}"s, "a safetensors file", "take it out"},
      {"\xFF\xFE" + wide("hello", 2, false), "text in UTF-16", "`iconv -f UTF-16 -t UTF-8 PATH |"},
      {"\xFE\xFF" + wide("hello", 2, true), "text in UTF-16", "`iconv -f UTF-16 -t UTF-8 PATH |"},
      {"\xFF\xFE\0\0"s + wide("hello", 4, false), "text in UTF-32", "`iconv -f UTF-32 -t UTF-8 PATH |"},
      {wide("hello there", 2, false), "text in UTF-16 or numbers of 16 bits", "`iconv -f UTF-16LE -t UTF-8 PATH |"},
      {wide("hello there", 2, true), "text in UTF-16 or numbers of 16 bits", "`iconv -f UTF-16BE -t UTF-8 PATH |"},
      {wide("hello there", 4, false), "text in UTF-32 or numbers of 32 bits", "`iconv -f UTF-32LE -t UTF-8 PATH |"},
      {wide("hello there", 4, true), "text in UTF-32 or numbers of 32 bits", "`iconv -f UTF-32BE -t UTF-8 PATH |"},
      {std::string(100, '\0'), "nothing but zero bytes", "damaged"},
  };
  TextOptions replace;
  replace.replace_invalid = replace.skip_bad = true;  // neither makes text of them
  for (const auto& one : cases) {
    const std::string path = folder.write("file", one.bytes);
    std::string reader = one.reader;
    if (const size_t at = reader.find("PATH"); at != reader.npos) reader.replace(at, 4, path);
    for (const TextOptions& options : {TextOptions{}, replace}) {
      EXPECT_NE(error_of(path, options).find(path + " is " + one.what), std::string::npos) << error_of(path, options);
      EXPECT_NE(error_of(path, options).find(reader), std::string::npos) << error_of(path, options);
    }
    const std::string packed = folder.write("file.gz", gzip(one.bytes));
    EXPECT_NE(error_of(packed).find(" is " + one.what), std::string::npos) << error_of(packed);
  }
  const std::string packed = folder.write("file.gz", gzip(wide("hello there", 2, false)));
  EXPECT_NE(error_of(packed).find("`gzip -dc " + packed + " | iconv -f UTF-16LE"), std::string::npos)
      << error_of(packed);
  EXPECT_NE(error_of(folder.write("file.gz", gzip(gzip("text")))).find("packed twice"), std::string::npos);
}

TEST(ForeignFiles, TextThatBeginsWithTheirLettersIsText) {
  TempFolder folder;
  for (const std::string text :
       {"PAR1 is a protein", "BZh", "ORC and elf", "%PDF- is how it begins", "PK", "ustar", "]", "GGUF",
        "\xC3\xA9t\xC3\xA9", "Obj", "{\n", "[citation needed]", "{{template}}", "{%- if -%}"}) {
    EXPECT_EQ(documents_of(folder.write("t", text)), std::vector<std::string>{text});
  }
}

}  // namespace
}  // namespace sluice
