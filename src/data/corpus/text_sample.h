// A sample of lines drawn evenly from a stream of any length in bounded memory.
//
// Every line gets a random number by its position in the stream; the lines with the smallest numbers stay, as many as
// the limit holds. So the sample depends on the seed and the text alone, and a text below the limit is taken whole.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

class TextSample {
 public:
  TextSample(uint64_t most_bytes, uint64_t seed) : most_bytes_(most_bytes), seed_(seed) {}

  // Divides a document into lines, each with the line ends behind it, and those that are very long into parts.
  void add_document(std::string_view text);
  // The sample in the order of the stream; leaves nothing behind.
  std::vector<std::string> take();

  uint64_t bytes() const { return bytes_; }
  bool whole() const { return limit_ == UINT64_MAX; }  // nothing was left out

  static constexpr size_t kLongestLine = 4096;  // in bytes

 private:
  struct Line {
    uint64_t number, position;
    std::string text;
    bool operator<(const Line& other) const { return number < other.number; }
  };
  void add_line(std::string_view line);

  uint64_t most_bytes_, seed_, bytes_ = 0, position_ = 0;
  uint64_t limit_ = UINT64_MAX;  // lines with this number or a larger one are left out
  std::vector<Line> lines_;      // a heap with the largest number on top
};

}  // namespace sluice
