// Every operation a transformer needs: one struct an op, in ops/ by family, with its tensors, their shapes and the
// formula. The CPU in fp32 is the oracle.
//
// Conventions. Letters: N = B*T rows (tokens), C width, H heads, KV key/value heads, D head size, V vocabulary.
// "act" is the activations' type (f32, bf16 or f64); "acc" is accumulator_of(act) (f32, or f64 for f64). Parameters'
// gradients, optimizer state and statistics are acc. `accumulate` false overwrites, true adds. Tensors may be column
// slices (Tensor::stride) where "strided" is said. An empty Tensor{} means "absent".
//
// An op has
//   kName            its name in errors and timings
//   check()          whether its tensors fit together; a mismatch is a bug and throws std::logic_error
//   check_values()   where a kernel follows what stands in a tensor: whether it may; for tensors in the host's memory
//   note()           where something beside its tensors decides what it costs: what that is, for people
//   for_tensors(f)   calls f with each of its tensors, absent ones too
//   Sizes, sizes()   what its `workspace` depends on, where it has one; Backend::workspace says how many f32 it wants
//   Result, result   where it gives a number: Backend::run returns it
// and a kernel on each device: a specialisation of `on`, in cpu/isa/kernels.h and cuda/kernels.h. Without one the
// program does not link.
#pragma once

#include <type_traits>

#include "kernels/ops/accumulate.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/cores/flow.h"
#include "kernels/ops/cores/key_only.h"
#include "kernels/ops/cores/linear_attention.h"
#include "kernels/ops/dropout.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/matmul.h"
#include "kernels/ops/moving_average.h"
#include "kernels/ops/norm.h"
#include "kernels/ops/optimizer.h"
#include "kernels/ops/outlier_loss.h"
#include "kernels/ops/quantize.h"
#include "kernels/ops/residual/depth_route.h"
#include "kernels/ops/stages/affine.h"
#include "kernels/ops/stages/difference.h"
#include "kernels/ops/stages/exclude_self.h"
#include "kernels/ops/stages/gather_rows.h"
#include "kernels/ops/stages/mix.h"
#include "kernels/ops/stages/prefix_mean.h"
#include "kernels/ops/stages/route_heads.h"
#include "kernels/ops/stages/share_rows.h"
#include "kernels/ops/stages/window_order.h"
#include "kernels/ops/tokens.h"

namespace sluice {

template <class Op>
concept HasWorkspace = requires {
  typename Op::Sizes;
};
template <class Op>
concept HasResult = requires {
  typename Op::Result;
};
template <class Op, class... Some>
concept OneOf = (std::is_same_v<Op, Some> || ...);

template <class... Listed>
struct OpList {
  static constexpr int kCount = sizeof...(Listed);
  static constexpr const char* kNames[] = {Listed::kName...};

  // The op's place in the list.
  template <class Op>
  static constexpr int index() {
    static_assert(OneOf<Op, Listed...>, "the op is not in the list");
    int place = 0;
    (void)((std::is_same_v<Op, Listed> || (++place, false)) || ...);
    return place;
  }

  // body(op) for the op at `place`, whose fields are at `fields`. Inlined always: the kernels of every instruction set
  // have one (cmake/isa_kernels.cmake).
  template <class Body>
  [[gnu::always_inline]] static inline void call(int place, const void* fields, Body body) {
    int here = 0;
    (void)((here++ == place && (body(*static_cast<const Listed*>(fields)), true)) || ...);
  }

  // The same for what the workspace of the op at `place` depends on.
  template <class Body>
  static void call_with_sizes(int place, const void* sizes, Body body) {
    int here = 0;
    const auto call_one = [&]<class Op>(std::type_identity<Op>) {
      if constexpr (HasWorkspace<Op>)
        if (here == place) body(*static_cast<const typename Op::Sizes*>(sizes));
      ++here;
    };
    (call_one(std::type_identity<Listed>{}), ...);
  }

  // body.operator()<Op>() for every op.
  template <class Body>
  static void for_each(Body body) {
    (body.template operator()<Listed>(), ...);
  }
};

using Ops = OpList<
    // filling and copying
    Fill, Copy, Accumulate, RandomUniform, RandomNormal,
    // the two ends of a model
    EmbeddingForward, EmbeddingBackward, CrossEntropy,
    // linear algebra
    Matmul, HeadMatmul, BiasGradient,
    // norms
    NormForward, NormBackward, HeadNormForward, HeadNormBackward,
    // MLP
    ActivationForward, ActivationBackward, SwigluForward, SwigluBackward,
    // attention
    Rope, AttentionForward, AttentionBackward, AttentionProbe, AttentionDecode, GateForward, GateBackward,
    ExcludeSelfForward, ExcludeSelfBackward, DifferenceForward, DifferenceBackward, DifferenceFactorForward,
    DifferenceFactorBackward, AffineForward, AffineBackward, AffineMean, PrefixMean, PrefixMeanBackward, MixForward,
    MixBackward, KeyOnlyForward, KeyOnlyBackward, LinearAttentionForward, LinearAttentionBackward, FlowForward,
    FlowBackward, ShareRowsForward, ShareRowsBackward, WindowOrder, GatherRows, RouteHeadsForward, RouteHeadsBackward,
    RouteBalance, QueryLengthsForward, QueryLengthsBackward,
    // optimizers
    AdamWUpdate, SgdUpdate, MuonMomentum, MatrixSum, Sum, SumOfSquares,
    // regularisation
    Dropout,
    // residuals
    DepthRouteForward, DepthRouteBackward,
    // losses of parts
    OutlierLoss,
    // state that is not trained
    MovingAverage,
    // diagnostics and quantization
    GroupNorms, FakeQuantize, RowRanges>;

// launch(place, fields) for `op`; returns its result, if it has one.
template <class Op, class Launch>
auto launched(const Op& op, Launch launch) {
  if constexpr (HasResult<Op>) {
    typename Op::Result result{};
    Op asked = op;
    asked.result = &result;
    launch(Ops::index<Op>(), &asked);
    return result;
  } else {
    launch(Ops::index<Op>(), &op);
  }
}

}  // namespace sluice
