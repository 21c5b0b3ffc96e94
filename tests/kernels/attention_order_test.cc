// Attention of rows in an order of their own: what it has in common with other attention, and that what lies outside is
// not visited. That it is the plain formula, its gradients and its precision, on every device, are tested with all
// other masks (with_and_without_masks).
#include "kernels/attention_bounds.h"

namespace sluice {
namespace {

constexpr AttentionShape kShape = {2, 200, 4, 2, 20, 24};

AttentionCase plain_case(ScoreKind score, Slot slot, DType act, bool documents) {
  AttentionCase out(score, kShape, slot, act);
  out.randomise();
  if (documents) out.pack_documents();
  return out;
}

// An order that is the sequence's own, with windows of the rows before: what kBegin says is then a first key. Windows
// of an order must hold rows behind them too, which places bar.
TEST(AttentionOrder, OfTheSequenceIsFullAttentionWhereWindowsHoldAll) {
  for_scores([](ScoreKind score) {
    for_kernels([&](const IsaKernels& isa, DType act) {
      for (const bool documents : {false, true}) {
        AttentionCase plain = plain_case(score, kSlots[int(act) % 3], act, documents), ordered = plain;
        ordered.shuffle_rows(1000);
        for (int64_t b = 0; b < kShape.B; ++b)
          for (int64_t i = 0; i < kShape.T; ++i) {
            const int64_t first = plain.first_key_of(b, i);
            ordered.put_order(OrderPlane::kPlace, b, i, i), ordered.put_order(OrderPlane::kRow, b, i, i);
            ordered.put_order(OrderPlane::kFirst, b, i, first);
            ordered.put_order(OrderPlane::kLength, b, i, i - first + 1);
          }
        plain.forward(isa), ordered.forward(isa);
        // The same products and sums: tiles of zeros come behind.
        EXPECT_TRUE(plain.out == ordered.out && plain.stats == ordered.stats);
        EXPECT_TRUE(ordered.untouched());
      }
    });
  });
}

// Rows put back to their places: windows that hold the whole sequence leave nothing of the order.
TEST(AttentionOrder, WithWindowsThatHoldAllIsFullAttention) {
  for_scores([](ScoreKind score) {
    for (const bool documents : {false, true}) {
      AttentionCase plain = plain_case(score, Slot::kKeyValue, DType::kF64, documents), ordered = plain;
      ordered.shuffle_rows(2 * kShape.T);
      const auto place = [&](int64_t n) {
        return n / kShape.T * kShape.T + ordered.in_order(OrderPlane::kPlace, n / kShape.T, n % kShape.T);
      };
      const auto move_rows = [&](TestBuffer& to, const TestBuffer& from) {
        const int64_t columns = to.tensor().cols();
        for (int64_t n = 0; n < kShape.B * kShape.T; ++n)
          for (int64_t c = 0; c < columns; ++c) to.set(n * columns + c, from.at(place(n) * columns + c));
      };
      move_rows(ordered.qkv, plain.qkv), move_rows(ordered.d_out, plain.d_out);
      plain.forward(widest()).backward(widest()), ordered.forward(widest()).backward(widest());
      AttentionCase want = plain;
      move_rows(want.out, plain.out), move_rows(want.d_qkv, plain.d_qkv);
      const auto same = [](const TestBuffer& x, const TestBuffer& y) {
        EXPECT_LE(distance(values_of(x), values_of(y)), 1e-12 * (1 + norm_of(values_of(y))));
      };
      same(ordered.out, want.out), same(ordered.d_qkv, want.d_qkv);
      same(ordered.d_key_bias, want.d_key_bias), same(ordered.d_value_bias, want.d_value_bias);
      for (size_t i = 0; i < plain.learned.size(); ++i) same(ordered.d_learned[i], want.d_learned[i]);
    }
  });
}

// A product with a weight of 0 would still bring a NaN in. Keys and values of the first 64 rows are NaN; rows whose
// tile begins behind the last window of theirs share none with them.
TEST(AttentionOrder, DoesNotVisitTilesOutside) {
  for_scores([](ScoreKind score) {
    for_kernels([&](const IsaKernels& isa, DType act) {
      AttentionCase run = plain_case(score, Slot::kNone, act, false);
      run.shuffle_rows(30);
      const HeadSizes heads = kShape.heads();
      const int64_t all = heads.projected_columns(), queries = heads.query_columns(), out = heads.result_columns();
      for (int64_t b = 0; b < kShape.B; ++b)
        for (int64_t i = 0; i < 64 * all; ++i)
          if (i % all >= queries) run.qkv.set(b * kShape.T * all + i, std::nan(""));
      ASSERT_LE(run.in_order(OrderPlane::kEnd, 0, 63), 128);
      run.forward(isa).backward(isa);
      for (int64_t b = 0; b < kShape.B; ++b)
        for (int64_t i = 128; i < kShape.T; ++i) {
          const int64_t n = b * kShape.T + i;
          for (int64_t c = 0; c < out; ++c) ASSERT_TRUE(std::isfinite(run.out.at(n * out + c))) << i;
          for (int64_t c = 0; c < queries; ++c) ASSERT_TRUE(std::isfinite(run.d_qkv.at(n * all + c))) << i;
        }
      EXPECT_TRUE(std::isnan(run.out.at(0)));
    });
  });
}

TEST(AttentionOrder, IsTheSameOnAnyNumberOfThreads) {
  for_kernels([](const IsaKernels& isa, DType act) {
    std::vector<AttentionCase> runs;
    for (const int threads : {1, 3}) {
      omp_set_num_threads(threads);
      AttentionCase run = plain_case(ScoreKind::kSoftmax, Slot::kKeyValue, act, true);
      run.shuffle_rows(40).forward(isa).backward(isa);
      runs.push_back(run);
    }
    omp_set_num_threads(omp_get_num_procs());
    EXPECT_TRUE(runs[0].out == runs[1].out && runs[0].d_qkv == runs[1].d_qkv);
  });
}

TEST(AttentionOrder, IsRefusedWhereItIsNone) {
  const auto backend = make_cpu_backend();
  const auto run = [&](auto change) {
    AttentionCase one(ScoreKind::kSoftmax, {1, 8, 1, 1, 16, 16}, Slot::kNone, DType::kF32);
    one.randomise().shuffle_rows(3);
    AttentionForward args = one.forward_args();
    change(one, args);
    backend->run(args);
  };
  EXPECT_NO_THROW(run([](AttentionCase&, AttentionForward&) {}));
  EXPECT_THROW(run([](AttentionCase&, AttentionForward& args) { args.spec.window = 3; }), std::logic_error);
  EXPECT_THROW(run([](AttentionCase& one, AttentionForward& args) { args.first_key = one.first_key; }),
               std::logic_error);
  for (const OrderPlane plane : {OrderPlane::kPlace, OrderPlane::kBegin, OrderPlane::kEnd, OrderPlane::kLength,
                                 OrderPlane::kRow, OrderPlane::kFirst})
    EXPECT_THROW(run([&](AttentionCase& one, AttentionForward&) {
                   one.put_order(plane, 0, 4, plane == OrderPlane::kFirst ? 9 : -1);
                 }),
                 std::logic_error);
}

}  // namespace
}  // namespace sluice
