// What somebody may have meant by a word that is no key and no choice.
#include <algorithm>
#include <limits>
#include <utility>

#include "base/config/config.h"
#include "base/limits.h"

namespace sluice {
namespace {

// Edits between two words: insert, delete, replace, swap neighbours (optimal string alignment).
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> before, last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = std::exchange(last, row);
  }
  return last[b.size()];
}

std::string lower(std::string word) {
  for (char& c : word) c = c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
  return word;
}

}  // namespace

std::string nearest(const std::string& word, const std::vector<std::string>& candidates) {
  if (word.size() > kMostQuoted) return "";  // no real word is as long, and the distance takes time
  const std::string wanted = lower(word);
  std::string best, containing;
  size_t best_distance = std::numeric_limits<size_t>::max();
  for (const std::string& candidate : candidates) {
    const std::string real = lower(candidate);
    const size_t distance = edit_distance(wanted, real);
    // About a third of a word may be wrong: two letters of "heads", none of "lr".
    if (distance <= (std::max(wanted.size(), real.size()) + 1) / 3 && distance < best_distance) {
      best = candidate, best_distance = distance;
    }
    const size_t shorter = std::min(wanted.size(), real.size());
    const bool inside = wanted.find(real) != std::string::npos || real.find(wanted) != std::string::npos;
    if (containing.empty() && shorter >= 4 && inside) containing = candidate;  // "batch_size" and "batch"
  }
  return best.empty() ? containing : best;
}

std::string meant(const std::string& word, const std::vector<std::string>& choices) {
  constexpr std::pair<const char*, const char*> kOtherWords[] = {
      {"gpu", "cuda"}, {"nvidia", "cuda"}, {"float32", "fp32"}, {"float", "fp32"}, {"bfloat16", "bf16"}};
  for (const auto& [other, ours] : kOtherWords) {
    if (lower(word) == other && std::count(choices.begin(), choices.end(), ours) > 0) return ours;
  }
  return nearest(word, choices);
}

}  // namespace sluice
