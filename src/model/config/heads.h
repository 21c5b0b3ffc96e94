// The tensors of an attention layer's heads.
#pragma once

#include "kernels/types/attention_types.h"
#include "kernels/types/tensor.h"

namespace sluice {

// What a core is given and what it makes of it; or the gradients of the same.
struct Heads {
  Tensor q;    // [N, H_q D_qk]
  Tensor k;    // [N, H_kv D_qk]
  Tensor v;    // [N, H_kv D_v]
  Tensor out;  // [N, H_q D_v]
  // [N, C]: the layer's input, for cores that read it themselves. In a forward run alone; never a gradient.
  Tensor x = {};
};

}  // namespace sluice
