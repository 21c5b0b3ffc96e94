#include "kernels/cpu/matmul.h"

#include <sys/mman.h>

#include <array>
#include <map>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>

#include "base/error.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/peak.h"

namespace sluice {
namespace {

using dnnl::memory;

memory::data_type dnnl_type(DType type) {
  return type == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32;
}

// What a prepared product depends on: sizes, strides, transpositions, types.
struct Key {
  std::array<int64_t, 6> sizes;  // M, N, K, stride of a, b, out
  std::array<uint8_t, 6> flags;  // transpose a, b, accumulate, bias, type of a, of out
  auto operator<=>(const Key&) const = default;
};

Key key_of(const Matmul& args) {
  const int64_t K = args.transpose_a ? args.a.rows() : args.a.cols();
  return {{args.out.rows(), args.out.cols(), K, args.a.stride, args.b.stride, args.out.stride},
          {args.transpose_a, args.transpose_b, args.accumulate, bool(args.bias), uint8_t(args.a.dtype),
           uint8_t(args.out.dtype)}};
}

// A oneDNN primitive with its argument memories; executing it only swaps pointers.
class Prepared {
 public:
  // Empty where ours is faster.
  static std::optional<Prepared> make(const Matmul& args, const Key& key);
  void execute(const Matmul& args);

 private:
  dnnl::matmul primitive_;
  memory a_, b_, out_, bias_;
};

dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

dnnl::stream& stream() {
  static dnnl::stream cpu(engine());
  return cpu;
}

// oneDNN generates its kernels in pieces of 256 KiB, some 60 for a training run, and dereferences null where there is
// no memory for one (seen with 2.6.3): hence a look beforehand.
void require_room_for_kernels() {
  void* const room = mmap(nullptr, kPreparedProductBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED)
    throw RunError(
        "out of memory: to prepare a matrix product takes up to {} MiB, which the machine or its limit (ulimit -v) "
        "does not give",
        kPreparedProductBytes >> 20);
  munmap(room, kPreparedProductBytes);
}

[[noreturn]] void throw_in_words(const dnnl::error& error, const Key& key) {
  const std::string product =
      fmt::format("the matrix product [{0},{2}] x [{2},{1}]", key.sizes[0], key.sizes[1], key.sizes[2]);
  if (error.status == dnnl_out_of_memory)
    throw RunError("out of memory: {} needs more than the machine or its limit (ulimit -v) gives", product);
  throw RunError("oneDNN cannot compute {}: {} (status {})", product, error.what(), int(error.status));
}

// oneDNN may be held to older instructions (ONEDNN_MAX_CPU_ISA), and then emulates bf16. Kernels called "gemm" cut a
// sum into as many parts as suits the number of threads.
bool is_faster_than_ours(const std::string& kernel) {
  const auto has = [&](const char* word) { return kernel.find(word) != std::string::npos; };
  return has("amx") || (has("bf16") && !has("gemm") && has_fast_bf16_dot());
}

std::optional<Prepared> Prepared::make(const Matmul& args, const Key& key) {
  require_room_for_kernels();
  const auto [M, N, K, a_stride, b_stride, out_stride] = key.sizes;
  const auto strides = [](int64_t stride, bool transposed) {
    return transposed ? memory::dims{1, stride} : memory::dims{stride, 1};
  };
  const memory::desc a({M, K}, dnnl_type(args.a.dtype), strides(a_stride, args.transpose_a));
  const memory::desc b({K, N}, dnnl_type(args.b.dtype), strides(b_stride, args.transpose_b));
  const memory::desc out({M, N}, dnnl_type(args.out.dtype), memory::dims{out_stride, 1});
  const memory::desc bias({1, N}, memory::data_type::f32, memory::dims{N, 1});
  dnnl::primitive_attr attributes;
  if (args.accumulate) {
    dnnl::post_ops ops;
    ops.append_sum(1.0f);
    attributes.set_post_ops(ops);
  }
  try {
    const dnnl::matmul::desc desc = args.bias ? dnnl::matmul::desc(a, b, bias, out) : dnnl::matmul::desc(a, b, out);
    const dnnl::matmul::primitive_desc primitive_desc(desc, attributes, engine());
    if (!is_faster_than_ours(primitive_desc.impl_info_str())) return std::nullopt;
    Prepared prepared;
    prepared.primitive_ = dnnl::matmul(primitive_desc);
    prepared.a_ = memory(a, engine(), nullptr);
    prepared.b_ = memory(b, engine(), nullptr);
    prepared.out_ = memory(out, engine(), nullptr);
    if (args.bias) prepared.bias_ = memory(bias, engine(), nullptr);
    return prepared;
  } catch (const dnnl::error& error) {
    if (error.status == dnnl_unimplemented) return std::nullopt;
    throw_in_words(error, key);
  }
}

void Prepared::execute(const Matmul& args) {
  a_.set_data_handle(args.a.data);
  b_.set_data_handle(args.b.data);
  out_.set_data_handle(args.out.data);
  std::unordered_map<int, memory> arguments{{DNNL_ARG_SRC, a_}, {DNNL_ARG_WEIGHTS, b_}, {DNNL_ARG_DST, out_}};
  if (args.bias) {
    bias_.set_data_handle(args.bias.data);
    arguments.emplace(DNNL_ARG_BIAS, bias_);
  }
  try {
    primitive_.execute(stream(), arguments);
    stream().wait();
  } catch (const dnnl::error& error) {
    throw_in_words(error, key_of(args));
  }
}

// The product for these arguments, prepared at its first use; null where ours is to compute it.
Prepared* prepared(const Matmul& args) {
  if (args.a.dtype != DType::kBF16 || !onednn_multiplies_bf16()) return nullptr;
  static std::mutex mutex;
  static std::map<Key, std::optional<Prepared>> cache;
  const Key key = key_of(args);
  const std::lock_guard lock(mutex);
  auto found = cache.find(key);
  if (found == cache.end()) found = cache.emplace(key, Prepared::make(args, key)).first;
  return found->second ? &*found->second : nullptr;
}

}  // namespace

bool onednn_multiplies_bf16() { return has_tiles() || has_fast_bf16_dot(); }

void cpu_matmul(const Matmul& args) {
  Prepared* product = prepared(args);
  if (!product) return isa_kernels().run(args);
  product->execute(args);
  if (args.activated) isa_kernels().run(ActivationForward{args.activation, args.activated, args.out});
}

}  // namespace sluice
