// Runs CUDA kernels on the CPU, so that they are tested where there is no GPU.
//
// The device files are compiled as C++ against the headers of this folder instead of CUDA's. A block's threads are
// fibers that run one after another, each up to its next barrier (a warp's collective or __syncthreads); blocks follow
// one another. With Order::kBackward the fibers run last to first: a kernel that lacks a barrier gives another result.
// Dynamic shared memory starts as NaNs. What is not emulated: speed, memory coalescing, bank conflicts, limits on
// registers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

struct EmulatedStream;

namespace sluice::emulation {

enum class Order { kForward, kBackward };

// The order of the threads of every block from now on.
void set_order(Order order);

struct Extent {
  unsigned x = 1, y = 1, z = 1;
};

// Runs `thread` once for every thread of the grid. Throws std::logic_error where the launch breaks a limit of the
// hardware or the threads of a block wait for each other in vain.
void run_grid(Extent grid, Extent block, size_t shared_bytes, const std::function<void()>& thread);

// Work on the backend's stream: done at once, or recorded while a graph is captured.
void submit(std::function<void()> work);
// Work on another stream, done when somebody waits for it.
void enqueue(struct ::EmulatedStream* stream, std::function<void()> work);

// --- called by a running thread
unsigned char* dynamic_shared();
void block_barrier();

// What a lane hands to the other lanes of its warp in a collective.
struct Deposit {
  uint32_t words[6];
  const void* pointer;
};
// Waits for the whole warp; returns the 32 deposits, valid until the lane's next collective but one.
const Deposit* exchange(const Deposit& mine);
int lane();

// Asynchronous copies: kept back until they are waited for.
void copy_later(void* shared, const void* global, bool valid);
void commit_copies();
void wait_for_copies(int groups_left);

}  // namespace sluice::emulation
