// Several sources as one, each with a share of the sequences.
//
// Shares are rounded to 65536ths, and a pattern of 65536 entries says which source each sequence of a period comes
// from; it repeats. The pattern is spread as evenly as it can be: the next sequence is the one of the source that lies
// furthest behind its share. So each batch has nearly the same mix, and which sequence of which source number n is
// follows from n alone.
//
// Each source goes through its own epochs, in its own order: a small source with a large share starts again early. The
// mixture has no epoch of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/sources/source.h"

namespace sluice {

struct MixturePart {
  std::unique_ptr<DataSource> source;
  double weight = 1;
  std::string name;  // for the log
};

// The seed of a mixture's source number `part`: two sources of one size must not be shuffled alike.
uint64_t mixture_seed(uint64_t seed, size_t part);

class SourceMixture final : public DataSource {
 public:
  // Sources of one context length. UserError (naming `key`) if a share is rounded to nothing, or if the sources say
  // that they are of different tokenizers.
  SourceMixture(std::vector<MixturePart> parts, const std::string& key);

  void fill(int64_t first_sequence, int64_t count, int32_t* inputs, int32_t* targets) const override;
  bool masks_documents() const override { return parts_.front().source->masks_documents(); }
  void fill_document_starts(int64_t first_sequence, int64_t count, int32_t* starts) const override;
  int64_t target_bytes(int64_t first_sequence, int64_t count) const override;
  int64_t vocab_size_needed() const override;
  std::string describe() const override;
  std::string identity() const override;
  TokenizerId tokenizer() const override;
  std::string token_text(int32_t token) const override { return parts_.front().source->token_text(token); }

  // Which source a sequence comes from, and which of that source's it is.
  std::pair<size_t, int64_t> locate(int64_t sequence) const;

 private:
  struct Entry {
    uint32_t part, rank;  // rank: how many entries of the part stand before it
  };
  void check_tokenizers(const std::string& key) const;
  void make_pattern(const std::string& key);

  std::vector<MixturePart> parts_;
  std::vector<int64_t> shares_;  // in 65536ths
  std::vector<Entry> pattern_;   // [65536]
};

}  // namespace sluice
