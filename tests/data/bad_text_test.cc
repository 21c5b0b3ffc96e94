// Text with faults in it: what is refused, replaced, left out and counted; documents without text; JSON that is not
// called so.
#include <gtest/gtest.h>

#include "base/error.h"
#include "data/packed_text.h"
#include "data/temp_folder.h"
#include "data/text/document_reader.h"

namespace sluice {
namespace {

struct Read {
  std::vector<std::string> documents;
  TextReport report;
};

Read read(const std::string& path, TextOptions options = {}) {
  DocumentReader reader({path}, std::move(options));
  Read read;
  for (std::string document; reader.next(document);) read.documents.push_back(document);
  read.report = reader.report();
  return read;
}

std::string error_of(const std::string& path, TextOptions options = {}) {
  return message_of<UserError>([&] { read(path, options); });
}

using Documents = std::vector<std::string>;

TEST(BadText, LinesAreLeftOutByTheirFaults) {
  TempFolder folder;
  TextOptions options;
  options.skip_bad = true;
  options.max_document_bytes = 40;
  const std::string path = folder.write("c.jsonl",
                                        "{\"text\":\"one\"}\n{\"text\":null}\n{\"text\":3}\n\n{\"body\":\"x\"}\n[1]\n{"
                                        "\"text\":\"a\n{\"text\":\"\\ud83d\"}\n"
                                        "{\"text\":\"\xFF\"}\n{\"text\":\"" +
                                            std::string(100, 'x') + "\"}\n{\"text\":null}\n{\"text\":\"two\"}");
  const Read found = read(path, options);
  EXPECT_EQ(found.documents, (Documents{"one", "two"}));
  const auto count = [&](BadText fault) { return found.report.bad[size_t(fault)]; };
  EXPECT_EQ(count(BadText::kNull), 2u);
  EXPECT_EQ(count(BadText::kNoString), 1u);
  EXPECT_EQ(count(BadText::kMissing), 1u);
  EXPECT_EQ(count(BadText::kNoObject), 1u);
  EXPECT_EQ(count(BadText::kNotJson), 1u);
  EXPECT_EQ(count(BadText::kSurrogate), 1u);
  EXPECT_EQ(count(BadText::kInvalid), 1u);
  EXPECT_EQ(count(BadText::kTooLong), 1u);
  EXPECT_EQ(found.report.left_out(), 9u);
  ASSERT_EQ(found.report.notes().size(), 1u);
  EXPECT_EQ(
      found.report.notes()[0].substr(0, found.report.notes()[0].find("; --skip-bad")),
      "--skip-bad left out 9 documents: 1 no valid JSON, 1 no JSON object, 1 without the field, 2 null for the text, "
      "1 no string as text, 1 a lone surrogate, 1 no valid UTF-8, 1 too long; the first: " +
          path + ", line 2: \"text\" is null in this line, not a string");
  options.replace_invalid = true;
  EXPECT_EQ(read(path, options).documents, (Documents{"one", "\uFFFD", "\uFFFD", "two"}));
  EXPECT_EQ(read(path, options).report.replaced, 2u);
  options = {};
  EXPECT_EQ(error_of(path, options).substr(0, path.size() + 16), path + ", line 2: \"text\"");
}

// The line after a long one is line 3, wherever the reader's blocks end.
TEST(BadText, LinesAreCountedRightBehindLongOnes) {
  TempFolder folder;
  TextOptions options;
  options.skip_bad = true;
  options.max_document_bytes = 1000;
  const std::string path = folder.write("c.jsonl", "{\"text\":\"one\"}\n" + std::string(700'000, 'x') +
                                                       "\n{\"text\":\"two\"}\n" + std::string(2000, 'y'));
  DocumentReader reader({path}, options);
  std::string document;
  ASSERT_TRUE(reader.next(document));
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document, "two");
  EXPECT_EQ(reader.text_of(reader.place()), path + ", line 3");
  EXPECT_FALSE(reader.next(document));
  EXPECT_EQ(reader.report().bad[size_t(BadText::kTooLong)], 2u);
}

TEST(BadText, PlainDocumentsAreLeftOutWhole) {
  TempFolder folder;
  TextOptions options;
  options.skip_bad = true;
  options.separator = "--";
  options.max_document_bytes = 20;
  const std::string path =
      folder.write("t", "good\n--\nbegins well\nbad \xFF\nends well\n--\n" + std::string(300'000, 'x') +
                            "\nmore\n--\nfine\n--\n" + std::string(15, 'y') + "\n" + std::string(15, 'z') + "\n");
  const Read found = read(path, options);
  EXPECT_EQ(found.documents, (Documents{"good\n", "fine\n"}));
  EXPECT_EQ(found.report.bad[size_t(BadText::kInvalid)], 1u);
  EXPECT_EQ(found.report.bad[size_t(BadText::kTooLong)], 2u);
  EXPECT_EQ(found.report.first_bad.substr(0, found.report.first_bad.find(';')),
            path + " is not valid UTF-8: byte 24 of its text is 0xFF");
  const std::string bad = folder.write("bad", "\xFF");
  EXPECT_EQ(read(bad, options).documents, Documents{});
  EXPECT_NE(message_of<UserError>([&] {
              throw_no_text(read(bad, options).report);
            }).find("no text but what --skip-bad left out, 1 document; the first: "),
            std::string::npos);
}

// The end of a line that was cut for its length may look like the separator.
TEST(BadText, TheRestOfALongLineIsNoSeparator) {
  TempFolder folder;
  TextOptions options;
  options.separator = "--";
  options.split_bytes = 10;
  const std::string path = folder.write("t", "xxxxxxxxxxxxxxxxxxxx--\ny\n--\nz");
  EXPECT_EQ(read(path, options).documents, (Documents{std::string(10, 'x'), std::string(10, 'x'), "--\ny\n", "z"}));
  options.split_bytes = 0;
  options.max_document_bytes = 10;
  options.skip_bad = true;
  EXPECT_EQ(read(path, options).documents, Documents{"z"});
}

TEST(EmptyText, IsADocumentWhereItIsAskedFor) {
  TempFolder folder;
  TextOptions options;
  options.keep_empty = true;
  const std::string lines = folder.write("c.jsonl", "{\"text\":\"\"}\n{\"text\":\"one\"}\n\n{\"text\":\"\"}\n");
  EXPECT_EQ(read(lines, options).documents, (Documents{"", "one", ""}));
  EXPECT_EQ(read(folder.write("empty", ""), options).documents, Documents{""});
  EXPECT_EQ(read(folder.write("packed.gz", gzip("")), options).documents, Documents{""});
  options.separator = "--";
  const std::string text = folder.write("t", "--\none\n--\n--\ntwo\n--\n");
  EXPECT_EQ(read(text, options).documents, (Documents{"one\n", "", "two\n"}));
  options.keep_empty = false;
  EXPECT_EQ(read(text, options).documents, (Documents{"one\n", "two\n"}));
  EXPECT_EQ(read(text, options).report.empty, 1u);
}

// ---- JSON that is not called JSON lines -----------------------------------------------------------------------------

TEST(JsonByContent, ObjectsOnLinesAreTakenAndTold) {
  TempFolder folder;
  const std::string lines = "{\"text\":\"one\"}\n{ \"text\": \"two\"}\n", mark = "\xEF\xBB\xBF";
  for (const char* name : {"c.json", "c.txt", "c", "c4-train.00000-of-01024.json"}) {
    for (const std::string& bytes : {lines, mark + lines, "\n \n" + lines, gzip(lines), zstd(mark + lines)}) {
      const std::string path = folder.write(name, bytes);
      const Read found = read(path);
      EXPECT_EQ(found.documents, (Documents{"one", "two"})) << name;
      EXPECT_EQ(found.report.notes(), Documents{"1 file was read as JSON lines for what its first line is (" + path +
                                                "); --format text takes the lines as text"});
    }
  }
  const std::string path = folder.write("c.json.gz", gzip(lines + "not so"));
  EXPECT_EQ(error_of(path),
            path +
                ", line 3: not valid JSON at column 1: a value is missing (the file was taken for JSON lines "
                "by its first line; --format text takes the lines as text)");
  EXPECT_EQ(read(folder.write("c.jsonl", lines)).report.notes(), Documents{});
  TextOptions text;
  text.format = "text";
  EXPECT_EQ(read(folder.write("c.json", lines), text).documents, Documents{lines});
  text.format = "auto";
  text.separator = "--";
  EXPECT_EQ(read(folder.write("c.txt", lines), text).documents, Documents{lines}) << "a separator says that it is text";
}

TEST(JsonByContent, OtherJsonIsAskedAbout) {
  TempFolder folder;
  TextOptions text;
  text.format = "text";
  for (const char* name : {"c.json", "c"}) {
    for (const std::string json : {"[{\"text\":\"one\"},{\"text\":\"two\"}]", "[\n  {\n    \"text\": \"one\"}]"}) {
      const std::string path = folder.write(name, json);
      EXPECT_NE(error_of(path).find(path + " begins as a list of JSON values, not as JSON lines: `jq -c '.[]' " + path),
                std::string::npos)
          << error_of(path);
      EXPECT_EQ(read(path, text).documents, Documents{json});
    }
    for (const std::string json :
         {"{\n  \"text\": \"one\"\n}", "{\"text\": \"one\"", "{\"text\": \"one\"} and so on"}) {
      const std::string path = folder.write(name, json);
      EXPECT_NE(error_of(path).find(path + " begins as JSON, but its first line is not one whole object"),
                std::string::npos);
      EXPECT_NE(error_of(path).find("--format jsonl"), std::string::npos);
      EXPECT_EQ(read(path, text).documents, Documents{json});
    }
  }
  EXPECT_NE(error_of(folder.write("c.json", "[\"one\", \"two\"]")).find("begins as a list"), std::string::npos);
  EXPECT_EQ(read(folder.write("c.json", "plain words")).documents, Documents{"plain words"});
  EXPECT_EQ(read(folder.write("c.txt", "[1] a footnote")).documents, Documents{"[1] a footnote"});
  EXPECT_NE(error_of(folder.write("c.jsonl", "[{\"text\":\"one\"}]")).find("line 1: this line is a list"),
            std::string::npos);
}

// The line is whole, however long: it lies over many of the reader's blocks.
TEST(JsonByContent, AFirstLineOfAnyLength) {
  TempFolder folder;
  const std::string words(1'000'000, 'w');
  const std::string path = folder.write("c.json", "{\"x\":\"" + words + "\",\"text\":\"one\"}\n{\"text\":\"two\"}");
  EXPECT_EQ(read(path).documents, (Documents{"one", "two"}));
  TextOptions options;
  options.max_document_bytes = 500'000;
  EXPECT_NE(error_of(path, options).find("its first line is not one whole object"), std::string::npos);
}

}  // namespace
}  // namespace sluice
