// Which source sequence n is from, by shares that are spread evenly (source_mixture.h).
#include "data/sources/source_mixture.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/philox.h"

namespace sluice {

namespace {

constexpr int64_t kPeriod = 1 << 16;

// Whole shares that sum to kPeriod: rounded down, and what is missing goes to the largest remainders.
std::vector<int64_t> apportion(const std::vector<MixturePart>& parts) {
  double sum = 0;
  for (const MixturePart& part : parts) sum += part.weight;
  std::vector<int64_t> shares;
  std::vector<std::pair<double, size_t>> remainders;  // the largest remainder first, then the first part
  int64_t missing = kPeriod;
  for (size_t i = 0; i < parts.size(); ++i) {
    const double exact = parts[i].weight / sum * double(kPeriod);
    shares.push_back(std::min(int64_t(exact), missing));
    missing -= shares.back();
    remainders.push_back({double(shares.back()) - exact, i});
  }
  std::sort(remainders.begin(), remainders.end());
  for (size_t i = 0; missing > 0; i = (i + 1) % remainders.size(), --missing) ++shares[remainders[i].second];
  return shares;
}

}  // namespace

uint64_t mixture_seed(uint64_t seed, size_t part) {
  const Random4 words = philox(seed, uint64_t(Stream::kMixture), part);
  return uint64_t{words.word[0]} << 32 | words.word[1];
}

SourceMixture::SourceMixture(std::vector<MixturePart> parts, const std::string& key)
    : DataSource(parts.at(0).source->context()), parts_(std::move(parts)), shares_(apportion(parts_)) {
  for (const MixturePart& part : parts_) check_eq(part.source->context(), context(), "context of a mixture's source");
  check_tokenizers(key);
  make_pattern(key);
}

void SourceMixture::check_tokenizers(const std::string& key) const {
  const MixturePart* known = nullptr;
  for (const MixturePart& part : parts_) {
    const TokenizerId own = part.source->tokenizer();
    if (known && own.differs(known->source->tokenizer())) {
      throw UserError("{}: {} was encoded by another tokenizer ({}) than {} ({})", key, part.name, own.text(),
                      known->name, known->source->tokenizer().text());
    }
    if (!known && !own.name.empty()) known = &part;
  }
}

void SourceMixture::make_pattern(const std::string& key) {
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (shares_[i] > 0) continue;
    throw UserError("{}: the weight {} of {} is less than one sequence in {}; raise it, or leave the source out", key,
                    parts_[i].weight, parts_[i].name, kPeriod);
  }
  // Behind its share, in 65536ths of a sequence: (n + 1) share - taken * period.
  std::vector<int64_t> behind(parts_.size(), 0);
  std::vector<uint32_t> taken(parts_.size(), 0);
  pattern_.reserve(size_t(kPeriod));
  for (int64_t n = 0; n < kPeriod; ++n) {
    for (size_t i = 0; i < parts_.size(); ++i) behind[i] += shares_[i];
    const size_t next = size_t(std::max_element(behind.begin(), behind.end()) - behind.begin());
    behind[next] -= kPeriod;
    pattern_.push_back({uint32_t(next), taken[next]++});
  }
  for (size_t i = 0; i < parts_.size(); ++i) check_eq(int64_t(taken[i]), shares_[i], "a source's part of the pattern");
}

std::pair<size_t, int64_t> SourceMixture::locate(int64_t sequence) const {
  check(sequence >= 0, "sequence numbers start at 0");
  const Entry& entry = pattern_[size_t(sequence % kPeriod)];
  return {entry.part, sequence / kPeriod * shares_[entry.part] + entry.rank};
}

void SourceMixture::fill(int64_t first_sequence, int64_t count, int32_t* inputs, int32_t* targets) const {
  for (int64_t row = 0; row < count; ++row) {
    const auto [part, sequence] = locate(first_sequence + row);
    parts_[part].source->fill(sequence, 1, inputs + row * context(), targets + row * context());
  }
}

void SourceMixture::fill_document_starts(int64_t first_sequence, int64_t count, int32_t* starts) const {
  for (int64_t row = 0; row < count; ++row) {
    const auto [part, sequence] = locate(first_sequence + row);
    parts_[part].source->fill_document_starts(sequence, 1, starts + row * context());
  }
}

int64_t SourceMixture::target_bytes(int64_t first_sequence, int64_t count) const {
  int64_t bytes = 0;
  for (int64_t row = 0; row < count; ++row) {
    const auto [part, sequence] = locate(first_sequence + row);
    bytes += parts_[part].source->target_bytes(sequence, 1);
  }
  return bytes;
}

int64_t SourceMixture::vocab_size_needed() const {
  int64_t needed = 0;
  for (const MixturePart& part : parts_) needed = std::max(needed, part.source->vocab_size_needed());
  return needed;
}

std::string SourceMixture::describe() const {
  std::string text = fmt::format("mixture of {} sources", parts_.size());
  for (size_t i = 0; i < parts_.size(); ++i) {
    text += fmt::format("; {:.4g}% {} ({})", 100 * double(shares_[i]) / double(kPeriod), parts_[i].name,
                        parts_[i].source->describe());
  }
  return text;
}

std::string SourceMixture::identity() const {
  std::string text = "mixture";
  for (const MixturePart& part : parts_) text += fmt::format(" {}", part.source->identity());
  return text;
}

TokenizerId SourceMixture::tokenizer() const {
  for (const MixturePart& part : parts_) {
    if (TokenizerId id = part.source->tokenizer(); !id.name.empty()) return id;
  }
  return {};
}

}  // namespace sluice
