#include "model/residual/add.h"

namespace sluice {
namespace {

// Its norm reads what an MLP added one tick later, in the next block or the head.
BufferId declare_sum_at_mlp(const Declarations& d, int sublayer, const std::string& name, const Shape& shape) {
  const int now = d.timeline.forward(sublayer), back = d.timeline.backward(sublayer);
  if (d.config.parallel_residual)  // no norm of this block reads it
    return d.plan.declare(name, "residual", shape, d.act, {now, now + 1});
  return d.activation(name, "residual", shape, d.act, {now, now + 1}, {back, back}, d.recompute == Recompute::kBlock);
}

BufferId declare_sum(const Declarations& d, int sublayer, const Shape& shape) {
  const Timeline& time = d.timeline;
  const int now = time.forward(sublayer);
  if (sublayer == time.head_sublayer()) return d.plan.declare("final_residual", "residual", shape, d.act, {now, now});
  const int layer = sublayer / 2;
  const std::string block = "blocks." + std::to_string(layer);
  if (sublayer == time.mlp_sublayer(layer)) return declare_sum_at_mlp(d, sublayer, block + ".mid", shape);
  return d.plan.declare(block + ".input", "residual", shape, d.act,
                        {sublayer == 0 ? time.embedding() : now, time.backward(sublayer)});
}

struct AddOptions final : ResidualOptions {
  std::unique_ptr<ResidualOptions> clone() const override { return std::make_unique<AddOptions>(*this); }
  void describe(Fields& /*group*/) override {}
  std::string text() const override { return "sums"; }
};

}  // namespace

void Add::declare(const Declarations& d, int sublayer) {
  const Shape shape = {d.max_tokens(), width_};
  sums_.push_back(declare_sum(d, sublayer, shape));
  if (sublayer == d.timeline.head_sublayer())
    d_sum_ = d.plan.declare("d_residual", "gradients", shape, d.act, {d.timeline.head(), d.timeline.end()});
}

NormInput Add::input(const Pass& pass, int sublayer) const {
  if (sublayer == 0) return {.x = stream_at(pass, 0)};
  return {.x = stream_at(pass, sublayer - 1), .delta = output(pass, sublayer - 1), .sum = stream_at(pass, sublayer)};
}

// The head's is the first.
Residual::Slope Add::d_input(const Pass& pass, int sublayer) const {
  return {view(pass, d_sum_), sublayer + 1 < int(sums_.size())};
}

ResidualPart add_residual() {
  return {.name = "add",
          .summary = "every sublayer adds to what it has read",
          .options = []() -> std::unique_ptr<ResidualOptions> { return std::make_unique<AddOptions>(); },
          .make = [](const Declarations& d, const ResidualOptions&) -> std::unique_ptr<Residual> {
            return std::make_unique<Add>(d);
          },
          .in_python = true,
          .example = "{}"};
}

}  // namespace sluice
