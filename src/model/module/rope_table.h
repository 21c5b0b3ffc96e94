// The cosines and sines of rope's angles, position by position.
#pragma once

#include "kernels/backend.h"
#include "model/config/config.h"

namespace sluice {

// table [positions, D] acc: of each, the cosines of D / 2 angles, then their sines.
void fill_rope_table(Backend& backend, const Tensor& table, const ModelConfig& model);

}  // namespace sluice
