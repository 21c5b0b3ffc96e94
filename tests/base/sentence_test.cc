// Whatever is thrown becomes one sentence in our own words, of bounded length, with the right exit code.
#include "base/config/sentence.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <ios>
#include <new>
#include <stdexcept>
#include <system_error>

#include "base/config/config.h"
#include "base/error.h"
#include "base/error_text.h"
#include "base/limits.h"

namespace sluice {
namespace {

// What `action` throws, as a sentence.
template <class Action>
Sentence sentence_from(Action action) {
  try {
    action();
  } catch (const std::exception& error) {
    return sentence_of(error);
  }
  return {"nothing was thrown", 0};
}

TEST(Sentence, OwnErrorsSpeakForThemselves) {
  const Sentence user = sentence_of(UserError("a {}", 1)), run = sentence_of(RunError("b"));
  EXPECT_EQ(user.text, "a 1");
  EXPECT_EQ(user.exit_code, 2);
  EXPECT_EQ(run.text, "b");
  EXPECT_EQ(run.exit_code, 1);
}

TEST(Sentence, FileSystemErrorsNameThePath) {
  const std::string name(300, 'x');
  const Sentence sentence = sentence_from([&] { (void)std::filesystem::exists(name); });
  EXPECT_EQ(sentence.text, "cannot use " + name + ": File name too long");
  EXPECT_EQ(sentence.exit_code, 2);
  const Sentence full =
      sentence_of(std::filesystem::filesystem_error("x", "a/b", std::make_error_code(std::errc::no_space_on_device)));
  EXPECT_EQ(full.text, "cannot use a/b: No space left on device");
  EXPECT_EQ(full.exit_code, 1);
}

TEST(Sentence, LibrariesErrorsAreSaidInWords) {
  const Sentence utf8 = sentence_from([] { Json("\xff").dump(); });
  EXPECT_EQ(utf8.exit_code, 2);
  EXPECT_NE(utf8.text.find("UTF-8"), std::string::npos);
  EXPECT_EQ(sentence_from([] { Json(5).at("a"); }).exit_code, 2);
  EXPECT_EQ(sentence_of(std::bad_alloc()).text,
            "out of memory: the machine, its container or its limit (ulimit -v) gives no more");
  EXPECT_EQ(sentence_of(std::length_error("vector::_M_default_append")).text,
            "out of memory: a size is beyond any memory");
  EXPECT_EQ(sentence_of(std::system_error(EAGAIN, std::generic_category(), "thread")).text,
            "the system refuses: Resource temporarily unavailable");
  EXPECT_EQ(sentence_from([] { throw fmt::system_error(ENOSPC, "cannot write to file"); }).text,
            "cannot write to the standard output: No space left on device");
  for (const Sentence& sentence :
       {utf8, sentence_from([] { Json(5).at("a"); }), sentence_of(std::ios_base::failure("basic_filebuf"))})
    for (const char* raw : {"json.exception", "basic_", "filesystem error"})
      EXPECT_EQ(sentence.text.find(raw), std::string::npos) << sentence.text;
}

TEST(Sentence, LongOnesAreCutInTheMiddle) {
  const Sentence sentence = sentence_of(UserError("begin {} end", std::string(20'000'000, 'k')));
  EXPECT_LE(sentence.text.size(), kMostMessage);
  EXPECT_TRUE(sentence.text.starts_with("begin kkk"));
  EXPECT_TRUE(sentence.text.ends_with("kkk end"));
  expect_contains(sentence.text, {"[20000010 bytes in all]"});
}

}  // namespace
}  // namespace sluice
