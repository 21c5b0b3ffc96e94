// What is asked of a list of models, for tests of parts that are more than an entry in a list of parts.
#pragma once

#include "model/gradient_check.h"

namespace sluice::parity::gradients {

template <class Check>
void for_each_model(const std::vector<Json>& models, int64_t context, Check check) {
  for (Json changes : models) {
    SCOPED_TRACE(changes.dump());
    changes["context"] = context;
    check(changes);
  }
}

inline void check_gradients_of(const std::vector<Json>& models, int64_t context) {
  for_each_model(models, context, [](const Json& changes) { check_gradients(changes); });
}

// Two sequences of 6 tokens, in the first of them two documents and in the second one and a rest.
inline void check_documents_of(const std::vector<Json>& models, int64_t context) {
  const auto backend = make_cpu_backend();
  for_each_model(models, context, [&](const Json& changes) {
    GradientCheck(*backend, small_model(changes), 6, {0, 0, 0, 0, 4, 4, 0, 1, 1, 1, 1, 1}).run();
  });
}

inline void check_recomputation_of(const std::vector<Json>& models, int64_t context) {
  for_each_model(models, context, [](const Json& changes) {
    const ModelConfig config = small_model(changes);
    const auto want = bits_of_step(config, Recompute::kNone);
    EXPECT_EQ(bits_of_step(config, Recompute::kMlp), want);
    EXPECT_EQ(bits_of_step(config, Recompute::kBlock), want);
  });
}

}  // namespace sluice::parity::gradients
