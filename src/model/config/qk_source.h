// Queries and keys of another source than the layer's input, from which values always are ("Deconstructing Attention",
// arXiv 2510.11602):
//
//   embedding  of the token embedding e, behind the layer's own norm: q, k = norm1(e) W (StaticEmbQK)
//   random     of a second stream, which begins with fixed random rows and runs through the same blocks (RndEmbQK)
//   text       of one that begins with the tokens of a fixed text (FixedSeqQK)
//
// The first is the projections' work (Projections). The stream of the others is one more sequence behind the batch's
// (FixedStream): its rows of queries and keys are projected alone, and become every sequence's
// (stages/queries_and_keys/qk_source.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/config/attention_options.h"

namespace sluice {

enum class QkSource : uint8_t { kHidden, kEmbedding, kRandom, kText };
template <>
struct ChoiceNames<QkSource> {
  static constexpr Choice<QkSource> kAll[] = {{"hidden", QkSource::kHidden},
                                              {"embedding", QkSource::kEmbedding},
                                              {"random", QkSource::kRandom},
                                              {"text", QkSource::kText}};
};

struct QkSourceConfig {
  QkSource type = QkSource::kHidden;
  uint64_t seed = 0;            // of random rows
  std::vector<int64_t> tokens;  // of the text

  void describe(Fields& fields);
  bool is_stream() const { return type == QkSource::kRandom || type == QkSource::kText; }
  bool operator==(const QkSourceConfig&) const = default;
};

struct QkSourceOptions final : StageOptions {
  QkSourceConfig qk_source;

  bool present() const override { return qk_source.type != QkSource::kHidden; }
  std::unique_ptr<StageOptions> clone() const override { return std::make_unique<QkSourceOptions>(*this); }
  void describe(Fields& attention) override;
  void resolve(const ModelConfig& model, const std::string& path) const override;
  std::string text() const override;

 private:
  void check_stream(const ModelConfig& model, const std::string& path) const;
  void check_tokens(const ModelConfig& model, const std::string& path) const;
};

// The stream of the model's layers, which have one at most; null: none has.
const QkSourceConfig* fixed_stream_of(const ModelConfig& model);

}  // namespace sluice
