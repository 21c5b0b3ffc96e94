// What the core key_only promises beyond what attention_parts_test.cc asks of every part.
#include "model/attention/cores/key_only.h"

#include <gtest/gtest.h>

#include "model/gradient_check.h"

namespace sluice {
namespace {

using namespace parity;

// What instruments see is what the core computed: the weights' rows sum to 1 and make the results of the values.
TEST(KeyOnly, ShowsTheWeightsOfItsResults) {
  constexpr int64_t kT = 6, kBatch = 2;
  const auto backend = make_cpu_backend();
  const ModelConfig config = gradients::small_model({{"context", kT}, {"kv_heads", 1}, {"attention", "key_only"}});
  Transformer model(*backend, config, {.act = DType::kF64, .max_batch = kBatch});
  model.initialise(9);
  const std::vector<int32_t> tokens = gradients::random_tokens(0, kBatch * kT),
                             starts = {0, 0, 2, 2, 2, 2, 0, 0, 0, 0, 0, 5};
  for (const bool documents : {false, true})
    model.forward({tokens.data(), nullptr, kBatch, kT, documents ? starts.data() : nullptr},
                  [&](const Pass& pass, int64_t layer) {
                    const AttentionLayer& attention = model.blocks()[size_t(layer)].attention();
                    const Heads heads = attention.heads(pass);
                    const auto weights = attention.weights()->read(pass, heads);
                    const Values v = values_of(heads.v), out = values_of(heads.out);
                    Arena arena(*backend, 2 * size_t(kBatch * 2 * kT) * sizeof(double));
                    const Tensor first = arena.at(0, DType::kF64, {kBatch, 2, kT}),
                                 gap = arena.at(size_t(kBatch * 2 * kT) * sizeof(double), DType::kF64, {kBatch, 2, kT});
                    attention.weights()->probe(pass, heads, first, gap);
                    const Values shown = values_of(first);
                    const int64_t D = attention.sizes().D_v;
                    for (int64_t b = 0; b < kBatch; ++b)
                      for (int64_t h = 0; h < 2; ++h) {
                        const HeadWeights of_head = weights->of(b, h, kT);
                        for (int64_t i = 0; i < kT; ++i) {
                          const double* row = of_head.rows.data() + i * kT;
                          const int64_t from = documents ? starts[size_t(b * kT + i)] : 0;
                          double sum = 0;
                          for (int64_t j = 0; j < kT; ++j) sum += row[j];
                          EXPECT_NEAR(sum, 1, 1e-14);
                          EXPECT_NEAR(shown[size_t((b * 2 + h) * kT + i)], row[from], 1e-14);
                          for (int64_t c = 0; c < D; ++c) {
                            double result = 0;
                            for (int64_t j = 0; j < kT; ++j) result += row[j] * v[size_t((b * kT + j) * D + c)];
                            EXPECT_NEAR(out[size_t(((b * kT + i) * 2 + h) * D + c)], result, 1e-13);
                          }
                        }
                      }
                  });
}

}  // namespace
}  // namespace sluice
