// Masked language modelling (BERT, arXiv 1810.04805) of another source's sequences: some tokens of each are to be
// predicted from both sides, and what stands in their place is a mask token, a random one, or the token itself.
//
// How many that are is the same in every sequence, as in BERT's published code: round(share * context), one at least.
// Which ones, and what stands in their place, is drawn by sequence number: another time in the training data the same
// text is masked in other places. Held-out sequences are masked alike in all runs, whatever their seeds.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/sources/source.h"

namespace sluice {

struct Masking {
  double share = 0;       // of a sequence's tokens, those to be predicted
  double replaced = 0.8;  // of these, those with the mask token in their place,
  double random = 0.1;    // and those with any token of the vocabulary; the rest stay
  int32_t token = 0;      // the mask token
  int64_t vocab_size = 0;
  std::vector<int32_t> never = {};  // tokens that are not predicted: those between documents
};

class MaskedTokens final : public DataSource {
 public:
  MaskedTokens(std::unique_ptr<DataSource> source, Masking masking, Split split, uint64_t seed);

  // Targets are negative where nothing is predicted. Where a sequence has too few tokens that may be, all of them are.
  void fill(int64_t first_sequence, int64_t count, int32_t* inputs, int32_t* targets) const override;
  int64_t predictions() const override;
  int64_t vocab_size_needed() const override;
  int64_t sequences_per_epoch() const override { return source_->sequences_per_epoch(); }
  bool masks_documents() const override { return source_->masks_documents(); }
  void fill_document_starts(int64_t first_sequence, int64_t count, int32_t* starts) const override {
    source_->fill_document_starts(first_sequence, count, starts);
  }
  std::string describe() const override;
  std::string identity() const override { return source_->identity(); }
  TokenizerId tokenizer() const override { return source_->tokenizer(); }
  std::string token_text(int32_t token) const override;

 private:
  void mask(int64_t sequence, int32_t* inputs, int32_t* targets) const;

  std::unique_ptr<DataSource> source_;
  const Masking masking_;
  const uint64_t seed_;
};

}  // namespace sluice
