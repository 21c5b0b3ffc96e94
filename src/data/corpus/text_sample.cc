// Lines kept by a draw for each, so that every line of the stream has the same chance (text_sample.h).
#include "data/corpus/text_sample.h"

#include <algorithm>

#include "base/philox.h"
#include "base/utf8.h"

namespace sluice {

void TextSample::add_document(std::string_view text) {
  while (!text.empty()) {
    size_t end = text.find('\n');
    end = end == text.npos ? text.size() : std::min(text.find_first_not_of('\n', end), text.size());
    if (end > kLongestLine) end = character_boundary(text, kLongestLine);
    add_line(text.substr(0, end));
    text.remove_prefix(end);
  }
}

void TextSample::add_line(std::string_view line) {
  const uint64_t position = position_++;
  const Random4 random = philox(seed_, uint64_t(Stream::kTextSample), position);
  const uint64_t number = uint64_t{random.word[0]} << 32 | random.word[1];
  if (number >= limit_) return;
  lines_.push_back({number, position, std::string(line)});
  std::push_heap(lines_.begin(), lines_.end());
  bytes_ += line.size();
  while (bytes_ > most_bytes_) {
    std::pop_heap(lines_.begin(), lines_.end());
    limit_ = lines_.back().number;
    bytes_ -= lines_.back().text.size();
    lines_.pop_back();
  }
}

std::vector<std::string> TextSample::take() {
  std::sort(lines_.begin(), lines_.end(), [](const Line& a, const Line& b) { return a.position < b.position; });
  std::vector<std::string> texts;
  texts.reserve(lines_.size());
  for (Line& line : lines_) texts.push_back(std::move(line.text));
  lines_.clear();
  lines_.shrink_to_fit();
  return texts;
}

}  // namespace sluice
