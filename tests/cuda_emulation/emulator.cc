// A fiber is a stack and a saved stack pointer; switching saves the registers that a call preserves.
#include "emulator.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda_runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// Saves the caller's registers on its stack and its stack pointer in *from; goes on where `to` was saved.
extern "C" void sluice_switch_stack(void** from, void* to);
asm(R"(
.text
.globl sluice_switch_stack
.type sluice_switch_stack, @function
sluice_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size sluice_switch_stack, .-sluice_switch_stack
)");

namespace sluice::emulation {
namespace {

constexpr unsigned kWarp = 32, kMaxThreads = 1024;
constexpr size_t kStackBytes = 256 * 1024, kSharedLimit = 227 * 1024;

struct Copy {
  void* shared;
  const void* global;
  bool valid;
};

struct Fiber {
  std::unique_ptr<unsigned char[]> stack{new unsigned char[kStackBytes]};
  void* saved = nullptr;
  bool done = false;
  uint64_t collectives = 0;             // of this lane
  const uint64_t* waits_for = nullptr;  // runs on when this reaches `target`
  uint64_t target = 0;
  std::deque<std::vector<Copy>> copies;  // groups, the last one open

  bool ready() const { return !done && (!waits_for || *waits_for >= target); }
};

struct Warp {
  Deposit deposits[2][kWarp];
  unsigned arrived = 0;
  uint64_t completed = 0;
};

struct Block {
  std::vector<Fiber> fibers{kMaxThreads};
  std::vector<Warp> warps{kMaxThreads / kWarp};
  std::vector<unsigned char> shared = std::vector<unsigned char>(kSharedLimit + 128);
  unsigned threads = 0, current = 0, arrived = 0;
  uint64_t completed = 0;  // __syncthreads
  void* scheduler = nullptr;
  const std::function<void()>* body = nullptr;
};

Block block;
Order order = Order::kForward;

void switch_to_fiber(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, fiber.stack.get(), kStackBytes);
#endif
  sluice_switch_stack(&block.scheduler, fiber.saved);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

#if defined(__SANITIZE_ADDRESS__)
const void* scheduler_stack;
size_t scheduler_stack_bytes;
#endif

void switch_to_scheduler(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(fiber.done ? nullptr : &fake, scheduler_stack, scheduler_stack_bytes);
#endif
  sluice_switch_stack(&fiber.saved, block.scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
  (*block.body)();
  Fiber& fiber = block.fibers[block.current];
  fiber.done = true;
  switch_to_scheduler(fiber);
}

// A stack on which the first switch finds six registers and the address of fiber_main.
void prepare(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(fiber.stack.get(), kStackBytes);  // of frames that were never left
#endif
  auto* top = reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(fiber.stack.get()) + kStackBytes) & ~uintptr_t{15});
  *--top = nullptr;  // where fiber_main's return address would be: it never returns
  *--top = reinterpret_cast<void*>(&fiber_main);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  fiber.saved = top;
  fiber.done = false;
  fiber.collectives = 0;
  fiber.waits_for = nullptr;
  fiber.copies.assign(1, {});
}

void resume(unsigned index) {
  block.current = index;
  threadIdx = {index, 0, 0};
  switch_to_fiber(block.fibers[index]);
}

void wait_until(const uint64_t& counter, uint64_t target) {
  Fiber& fiber = block.fibers[block.current];
  fiber.waits_for = &counter;
  fiber.target = target;
  while (counter < target) switch_to_scheduler(fiber);
  fiber.waits_for = nullptr;
}

void run_block() {
  for (unsigned i = 0; i < block.threads; ++i) prepare(block.fibers[i]);
  for (Warp& warp : block.warps) warp.arrived = 0, warp.completed = 0;
  block.arrived = 0;
  block.completed = 0;
  std::fill(block.shared.begin(), block.shared.end(), 0xff);
  unsigned done = 0;
  while (done < block.threads) {
    bool progress = false;
    for (unsigned i = 0; i < block.threads; ++i) {
      const unsigned index = order == Order::kForward ? i : block.threads - 1 - i;
      if (!block.fibers[index].ready()) continue;
      resume(index);
      progress = true;
      done += block.fibers[index].done;
    }
    if (!progress) throw std::logic_error("emulated kernel: the threads of a block wait at different barriers");
  }
  for (unsigned i = 0; i < block.threads; ++i) {
    const auto& copies = block.fibers[i].copies;
    if (copies.size() > 1 || !copies.back().empty())
      throw std::logic_error("emulated kernel: an asynchronous copy was not waited for");
  }
}

void check_launch(Extent grid, Extent threads, size_t shared_bytes) {
  const auto fail = [](const std::string& what) { throw std::logic_error("emulated launch: " + what); };
  if (threads.y != 1 || threads.z != 1) fail("blocks must be one-dimensional");
  if (threads.x == 0 || threads.x > kMaxThreads || threads.x % kWarp)
    fail(std::to_string(threads.x) + " threads in a block");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) fail("an empty grid");
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) fail("the grid is too large");
  if (shared_bytes > kSharedLimit) fail(std::to_string(shared_bytes) + " bytes of shared memory");
}

void perform(const Copy& copy) {
  if (copy.valid) std::memcpy(copy.shared, copy.global, 16);
  else std::memset(copy.shared, 0, 16);
}

}  // namespace

void set_order(Order next) { order = next; }

void run_grid(Extent grid, Extent threads, size_t shared_bytes, const std::function<void()>& thread) {
  check_launch(grid, threads, shared_bytes);
  gridDim = dim3(grid.x, grid.y, grid.z);
  blockDim = dim3(threads.x);
  block.threads = threads.x;
  block.body = &thread;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        run_block();
      }
}

unsigned char* dynamic_shared() {
  return reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(block.shared.data()) + 127) & ~uintptr_t{127});
}

void block_barrier() {
  const uint64_t target = block.completed + 1;
  if (++block.arrived == block.threads) {
    block.arrived = 0;
    ++block.completed;
  }
  wait_until(block.completed, target);
}

int lane() { return int(block.current % kWarp); }

// Two sets of deposits suffice: a lane that hands in its next but one has seen all others hand in the one between.
const Deposit* exchange(const Deposit& mine) {
  Fiber& fiber = block.fibers[block.current];
  Warp& warp = block.warps[block.current / kWarp];
  const uint64_t number = fiber.collectives++;
  Deposit* deposits = warp.deposits[number % 2];
  deposits[lane()] = mine;
  if (++warp.arrived == kWarp) {
    warp.arrived = 0;
    ++warp.completed;
  }
  wait_until(warp.completed, number + 1);
  return deposits;
}

void copy_later(void* shared, const void* global, bool valid) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 || reinterpret_cast<uintptr_t>(global) % 16)
    throw std::logic_error("emulated kernel: an asynchronous copy is not aligned to 16 bytes");
  block.fibers[block.current].copies.back().push_back({shared, global, valid});
}

void commit_copies() { block.fibers[block.current].copies.emplace_back(); }

void wait_for_copies(int groups_left) {
  auto& copies = block.fibers[block.current].copies;
  while (int(copies.size()) - 1 > groups_left) {
    for (const Copy& copy : copies.front()) perform(copy);
    copies.pop_front();
  }
}

}  // namespace sluice::emulation
