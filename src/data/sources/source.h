// Where training sequences come from.
//
// A source is stateless: sequence number n is a pure function of (config, seed, split, n). The training loop asks for
// sequences step * batch ... step * batch + batch - 1, so a resumed run, or one on another number of ranks or with
// another micro-batch, sees the same tokens.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include <fmt/format.h>

namespace sluice {

// Two disjoint streams of the same task; for token shards, two lists of files.
enum class Split { kTrain, kHeldOut };

inline const char* split_name(Split split) { return split == Split::kTrain ? "train" : "held-out"; }

// Two tokenizers are one where their hashes are equal.
struct TokenizerId {
  std::string name;  // empty: not known
  uint64_t hash = 0;

  bool differs(const TokenizerId& other) const { return !name.empty() && !other.name.empty() && hash != other.hash; }
  std::string text() const { return fmt::format("{}, hash {:016x}", name, hash); }
};

// A task that a source's sequences set: what may be known of the token that follows. For instruments.
class TokenTask {
 public:
  virtual ~TokenTask() = default;
  // Whether the token that follows is certain: it is to be found in the sequence, which takes attention.
  virtual bool is_trigger(int32_t token) const = 0;
  // Else the distribution that the next one is drawn from; may be shorter than the vocabulary.
  virtual std::span<const double> next_distribution(int32_t token) const = 0;
};

class DataSource {
 public:
  explicit DataSource(int64_t context) : context_(context) {}
  virtual ~DataSource() = default;
  DataSource(const DataSource&) = delete;
  DataSource& operator=(const DataSource&) = delete;

  // Writes sequences [first_sequence, first_sequence + count). Both arrays are [count, context()] row-major; targets
  // are the inputs shifted by one position, or where a source masks tokens what was there. Safe to call from several
  // threads. Throws UserError on bad data.
  virtual void fill(int64_t first_sequence, int64_t count, int32_t* inputs, int32_t* targets) const = 0;

  // How many targets of a sequence are not negative: what a mean loss is a mean over.
  virtual int64_t predictions() const { return context_; }

  // The smallest model.vocab_size that holds every token seen when the source was opened. A token beyond the model's
  // vocabulary that turns up later is refused by fill.
  virtual int64_t vocab_size_needed() const = 0;

  // How many sequences an epoch has; after it the order starts again. 0: endless, no sequence repeats.
  virtual int64_t sequences_per_epoch() const { return 0; }

  // Whether attention is to stay within documents; fill_document_starts then says where they are.
  virtual bool masks_documents() const { return false; }

  // Writes [count, context()]: for each input position, the position in its window where its document starts. So the
  // numbers of a row do not decrease, and none is larger than its own position. All zeros without masking.
  virtual void fill_document_starts(int64_t, int64_t count, int32_t* starts) const {
    std::fill_n(starts, count * context_, 0);
  }

  // Bytes of text that the targets of sequences [first_sequence, first_sequence + count) stand for; 0: not known.
  virtual int64_t target_bytes(int64_t, int64_t) const { return 0; }

  // One line for the log.
  virtual std::string describe() const = 0;

  // A short string that changes when the data itself changes (not its place, order or seed). Checkpoints store it, so
  // that a resume on other data is noticed.
  virtual std::string identity() const = 0;

  // The tokenizer that made the tokens.
  virtual TokenizerId tokenizer() const { return {}; }

  // What to print for a token on an axis or in a sample; valid UTF-8, never empty. The id where there is no text.
  virtual std::string token_text(int32_t token) const { return std::to_string(token); }

  // Null where the data are no task's.
  virtual const TokenTask* task() const { return nullptr; }

  int64_t context() const { return context_; }

 private:
  int64_t context_;
};

}  // namespace sluice
