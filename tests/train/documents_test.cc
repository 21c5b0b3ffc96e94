// Sequences of several documents that do not see each other: the model's logits, its loss, and what the learner makes
// of a data source that masks documents are those of each document by itself. Without position information, so that a
// document's place in the sequence is all that could tell. In f64: sums are cut into other tiles, nothing else differs.
#include <gtest/gtest.h>

#include "base/philox.h"
#include "model/config/attention_parts.h"
#include "model/config/qk_source.h"
#include "model/parity.h"
#include "train/learner.h"

namespace sluice {
namespace {

using namespace parity;

constexpr int64_t kBatch = 2, kContext = 70, kVocab = 13;

ModelConfig tiny_model(const Json& attention) {
  return model_config({{"vocab_size", kVocab},
                       {"context", kContext},
                       {"layers", 2},
                       {"heads", 2},
                       {"kv_heads", 1},
                       {"width", 16},
                       {"mlp_width", 24},
                       {"position", "none"},
                       {"init", "pytorch"},
                       {"tied_head", false},
                       {"attention", attention}});
}

// Two sequences, of three and four documents; targets are the next tokens, whatever document they are of.
class PackedSource : public DataSource {
 public:
  PackedSource() : DataSource(kContext) {}
  void fill(int64_t first_sequence, int64_t count, int32_t* inputs, int32_t* targets) const override {
    for (int64_t i = 0; i < count * kContext; ++i) {
      inputs[i] = token(first_sequence * kContext + i);
      targets[i] = token(first_sequence * kContext + i + 1);
    }
  }
  bool masks_documents() const override { return true; }
  void fill_document_starts(int64_t first_sequence, int64_t count, int32_t* starts) const override {
    for (int64_t n = 0; n < count; ++n)
      for (int64_t i = 0; i < kContext; ++i)
        for (const int32_t start :
             first_sequence + n == 0 ? std::vector<int32_t>{0, 40, 66} : std::vector{0, 1, 23, 65})
          if (start <= i) starts[n * kContext + i] = start;
  }
  int64_t vocab_size_needed() const override { return kVocab; }
  std::string describe() const override { return "packed documents"; }
  std::string identity() const override { return "packed"; }

 private:
  static int32_t token(int64_t i) { return int32_t(philox(3, 0, uint64_t(i)).word[0] % kVocab); }
};

struct Batch {
  std::vector<int32_t> inputs = std::vector<int32_t>(size_t(kBatch * kContext)), targets = inputs, starts = inputs;

  Batch() {
    const PackedSource source;
    source.fill(0, kBatch, inputs.data(), targets.data());
    source.fill_document_starts(0, kBatch, starts.data());
  }
  // body(first position in the batch, positions) for every document.
  template <class Body>
  void for_documents(Body body) const {
    for (int64_t first = 0, end; first < kBatch * kContext; first = end) {
      for (end = first + 1; end % kContext != 0 && starts[size_t(end)] == starts[size_t(first)];) ++end;
      body(first, end - first);
    }
  }
};

TEST(Documents, LogitsAreThoseOfEachDocumentAlone) {
  const Batch batch;
  for (const AttentionPreset& preset : attention_presets()) {
    SCOPED_TRACE(preset.name);
    const auto backend = make_cpu_backend();
    Transformer model(*backend, tiny_model(preset.name), {.act = DType::kF64, .max_batch = kBatch});
    model.initialise(5);
    Values packed, alone;
    const Pass pass = model.forward({batch.inputs.data(), nullptr, kBatch, kContext, batch.starts.data()});
    model.for_logits(pass, [&](int64_t, const Tensor& chunk) {
      const Values rows = values_of(chunk);
      packed.insert(packed.end(), rows.begin(), rows.end());
    });
    batch.for_documents([&](int64_t first, int64_t count) {
      const auto from = batch.inputs.begin() + first;
      const Values rows = logits_of(model, {from, from + count}, 1, count);
      alone.insert(alone.end(), rows.begin(), rows.end());
    });
    // A fixed stream's rows are those of the positions in the sequence, wherever a document begins.
    if (!fixed_stream_of(model.config())) {
      EXPECT_LE(distance(packed, alone), 1e-12);
    }
    if (!model.config().attention.all.core_part().has_heads()) continue;  // tokens do not mix at all
    EXPECT_GE(distance(logits_of(model, batch.inputs, kBatch, kContext), alone), 1e-3)
        << "documents do not matter here";
  }
}

// f32; the losses of 140 tokens, each some 1e-6 off.
TEST(Documents, TheLearnerMasksThem) {
  Experiment experiment;
  experiment.model = tiny_model("softmax");
  experiment.train.batch = kBatch;
  experiment.train.micro_batch = 1;
  const auto backend = make_cpu_backend();
  Learner learner(*backend, experiment);
  learner.model().initialise(5);
  const Batch batch;
  double sum = 0, whole = 0;
  batch.for_documents([&](int64_t first, int64_t count) {
    sum += learner.model().loss({&batch.inputs[size_t(first)], &batch.targets[size_t(first)], 1, count});
  });
  for (int64_t b = 0; b < kBatch; ++b)
    whole +=
        learner.model().loss({&batch.inputs[size_t(b * kContext)], &batch.targets[size_t(b * kContext)], 1, kContext});
  const double tokens = double(kBatch * kContext);
  EXPECT_NEAR(learner.evaluate(PackedSource(), kBatch), sum / tokens, 1e-6);
  EXPECT_NEAR(learner.differentiate(PackedSource(), 0).loss, sum / tokens, 1e-6);
  EXPECT_GE(std::fabs(whole - sum) / tokens, 1e-5) << "documents do not matter here";
}

}  // namespace
}  // namespace sluice
