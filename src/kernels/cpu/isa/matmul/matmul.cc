// Matrix products C = op(A) op(B) on vector registers.
#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/isa/matmul/few_rows.h"
#include "kernels/cpu/isa/matmul/product.h"

namespace sluice::SLUICE_ISA {
namespace {

template <class S, class Out>
void multiply(const Matmul& op) {
  if (!has_few_rows(op)) return Product<S, Out>(op).run();
  multiply_few<S, Out>(op);
  if (op.activated) on(ActivationForward{op.activation, op.activated, op.out});
}

}  // namespace

template <>
void on(const Matmul& op) {
  with_storage(op.a.dtype, [&](auto storage) {
    using S = decltype(storage);
    if (op.out.dtype == op.a.dtype) multiply<S, S>(op);
    else multiply<S, Acc<S>>(op);
  });
}

}  // namespace sluice::SLUICE_ISA
