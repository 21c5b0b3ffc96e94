// Stands in for src/kernels/cuda/launch.h in the emulation (tests/cuda_emulation/emulator.h).
#pragma once

#include <cuda_runtime.h>

#include "emulator.h"
#include "kernels/cuda/launch_error.h"

namespace sluice::cuda {

inline constexpr int kWarp = 32;

inline unsigned char* dynamic_shared() { return emulation::dynamic_shared(); }

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t, A... args) {
  emulation::submit([=] {
    emulation::run_grid({grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared_bytes,
                        [=] { kernel(P(args)...); });
  });
}

}  // namespace sluice::cuda
