// Small models in f64 whose attention layers are looked at after a forward pass: what stages on results promise.
#pragma once

#include "model/gradient_check.h"

namespace sluice::parity {

class SmallLayers : public testing::Test {
 protected:
  static constexpr int64_t kT = 6, kBatch = 2;

  // `changes` to gradients::small_model, with kT positions; parameters at their first values.
  Transformer model(Json changes) const {
    changes["context"] = kT;
    Transformer model(*backend_, gradients::small_model(changes), {.act = DType::kF64, .max_batch = kBatch});
    model.initialise(9);
    return model;
  }

  // body(pass, layer's attention) after every layer of a forward pass over random tokens.
  template <class Body>
  void look(Transformer& model, Body body) const {
    const std::vector<int32_t> tokens = gradients::random_tokens(0, kBatch * kT);
    model.forward({tokens.data(), nullptr, kBatch, kT},
                  [&](const Pass& pass, int64_t layer) { body(pass, model.blocks()[size_t(layer)].attention()); });
  }

  // Of all layers, one after the other: what the output projection reads.
  Values results(Transformer& model) const {
    Values out;
    look(model, [&](const Pass& pass, const AttentionLayer& attention) {
      const Values layer = values_of(attention.results(pass));
      out.insert(out.end(), layer.begin(), layer.end());
    });
    return out;
  }

  const std::unique_ptr<Backend> backend_ = make_cpu_backend();
};

}  // namespace sluice::parity
