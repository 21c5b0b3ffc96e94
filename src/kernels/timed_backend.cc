#include "kernels/timed_backend.h"

#include "base/stopwatch.h"

namespace sluice {
namespace {

MatmulShape shape_of(const Matmul& args) {
  return {.M = args.out.rows(),
          .N = args.out.cols(),
          .K = args.transpose_a ? args.a.rows() : args.a.cols(),
          .a_stride = args.a.stride,
          .b_stride = args.b.stride,
          .out_stride = args.out.stride,
          .transpose_a = args.transpose_a,
          .transpose_b = args.transpose_b,
          .accumulate = args.accumulate,
          .bias = bool(args.bias),
          .type = args.a.dtype,
          .out_type = args.out.dtype};
}

}  // namespace

std::string MatmulShape::str() const {
  return fmt::format("{} {}x{}x{}{}{}", name_of(type), M, N, K,
                     transpose_a   ? " A^T"
                     : transpose_b ? " B^T"
                                   : "",
                     accumulate ? " +=" : "");
}

// How long it took.
double TimedBackend::timed(const char* name, const std::function<void()>& work) {
  const Stopwatch watch;
  work();
  if (!measuring_) return 0;
  inner_.synchronize();
  const double seconds = watch.seconds();
  OpTime& time = ops_[name];
  ++time.calls;
  time.seconds += seconds;
  return seconds;
}

// Also kept by shape: `count` products like `product`.
void TimedBackend::timed_product(const char* name, const Matmul& product, int64_t count,
                                 const std::function<void()>& work) {
  const double seconds = timed(name, work);
  OpTime& time = matmuls_[shape_of(product)];
  time.calls += count;
  time.seconds += seconds;
}

// A fused activation is timed as an op of its own, so that the products compare with bare ones of the same shape.
void TimedBackend::launch(int place, const void* fields) {
  const auto pass_on = [&] { inner_.launch(place, fields); };
  if (!measuring_) return pass_on();
  if (place == Ops::index<HeadMatmul>()) {
    const HeadMatmul& op = *static_cast<const HeadMatmul*>(fields);
    return timed_product(HeadMatmul::kName, op.of_head(0), op.heads, pass_on);
  }
  if (place != Ops::index<Matmul>()) return void(timed(Ops::kNames[place], pass_on));
  const Matmul& op = *static_cast<const Matmul*>(fields);
  Matmul product = op;
  product.activated = {};
  timed_product(Matmul::kName, product, 1, [&] { inner_.launch(place, &product); });
  if (op.activated) run(ActivationForward{op.activation, op.activated, op.out});
}

// Op by op where they are measured: a record has no parts to time.
void TimedBackend::replay(const std::string& key, const std::function<void()>& ops) {
  if (measuring_) ops();
  else inner_.replay(key, ops);
}

void TimedBackend::upload(const Tensor& to, const void* from) {
  timed("upload", [&] { inner_.upload(to, from); });
}

void TimedBackend::download(void* to, const Tensor& from) {
  timed("download", [&] { inner_.download(to, from); });
}

}  // namespace sluice
