// Writing token by token: a step costs one token's products and the reading of what the parts keep of the tokens before
// it (DecoderState), not the sequence again. What it computes is what Transformer::forward over the whole sequence
// does, but for rounding.
//
//   Decoder decoder(model, B);
//   Tensor logits = decoder.prefill(prompt, T);            // [B, V], of the prompts' last tokens
//   while (...) logits = decoder.step(next);               // [B, V]
#pragma once

#include "model/transformer.h"

namespace sluice {

class Decoder {
 public:
  // Allocates the state. `sequences` is at most the model's max_batch; the model must outlive the decoder.
  Decoder(Transformer& model, int64_t sequences);

  // Both return the logits that follow every sequence's last token, [B, V] in the accumulator's type, on the device;
  // they live until the next call. Tokens are host arrays.
  Tensor prefill(const int32_t* tokens, int64_t T);  // [B, T], 1 <= T <= context: starts anew
  Tensor step(const int32_t* tokens);                // [B]; length() < context

  int64_t sequences() const { return sequences_; }
  int64_t length() const;  // tokens of every sequence
  size_t bytes() const { return state_.bytes() + logits_.bytes(); }

 private:
  Tensor logits_of(const Pass& pass);

  Transformer& model_;
  int64_t sequences_;
  DecoderState state_;  // with registers, which are no tokens, and a fixed stream, which is none of the sequences
  Arena logits_;
};

}  // namespace sluice
