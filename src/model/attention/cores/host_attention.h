// Attention of whole sequences on the host, row by row in double precision from explicit matrices: for those who look
// at scores and weights on their way, and may change them (ActivationHook::row). Slow: O(T^2 D) a head without
// registers or tiles, and [H, T, T] numbers at a time.
#pragma once

#include "kernels/ops/attention.h"
#include "model/attention/cores/tile_weights.h"
#include "model/module/module.h"

namespace sluice {

// Writes run.out as the op would, but not run.stats. pass.activations() is there. With `slots` as in HostTiles.
void attention_on_host(const Pass& pass, int sublayer, const AttentionForward& run, const SlotWindows& slots = {});

}  // namespace sluice
