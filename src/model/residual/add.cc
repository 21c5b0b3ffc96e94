#include "model/residual/add.h"

#include "base/error.h"

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
  double outlier_weight = 0, outlier_limit = 3;

  std::unique_ptr<ResidualOptions> clone() const override { return std::make_unique<AddOptions>(*this); }
  void describe(Fields& group) override {
    group
        .add("outlier_loss", outlier_weight,
             "weight of a loss on large activations: the mean over blocks, tokens and features of (x / "
             "outlier_limit)^4, x what a block leaves in the residual stream (TWEO, arXiv 2511.23225, which takes "
             "0.01); 0: none")
        .range(0, 1e3)
        .not_written_as(0.0);
    group.add("outlier_limit", outlier_limit, "size of an activation that counts as 1 there")
        .range(1e-3, 1e6)
        .not_written_as(3.0);
  }
  void resolve(const ModelConfig& /*model*/, const std::string& path) const override {
    if (outlier_weight == 0 && outlier_limit != 3)
      throw UserError("{}.outlier_limit = {} does nothing without {}.outlier_loss", path, outlier_limit, path);
  }
  bool averages_rows() const override { return outlier_weight > 0; }
  std::string text() const override { return outlier_weight > 0 ? "sums, with a loss on large activations" : "sums"; }
};

}  // namespace

Add::Add(const Declarations& d, double outlier_weight, double outlier_limit)
    : width_(d.config.width), layers_(d.config.layers), outlier_limit_(outlier_limit) {
  if (outlier_weight > 0) outliers_ = d.losses.declare("outliers", outlier_weight);
}

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
Residual::Slope Add::d_input(const Pass& pass, int sublayer, const Tensor& /*d_normed*/) const {
  return {view(pass, d_sum_), sublayer + 1 < int(sums_.size())};
}

// Blocks leave what the next attention, or the head, reads.
void Add::backward(const Pass& pass, int sublayer, const Tensor& d_stream) const {
  if (!outliers_ || sublayer == 0 || sublayer % 2 != 0) return;
  const double values = double(layers_ * pass.N() * width_);
  pass.backend.run(OutlierLoss{.x = stream_at(pass, sublayer),
                               .d_x = d_stream,
                               .loss = pass.loss(outliers_),
                               .limit = outlier_limit_,
                               .value_scale = pass.share / values,
                               .grad_scale = pass.loss_scale(outliers_) / values});
}

ResidualPart add_residual() {
  return {.name = "add",
          .summary = "every sublayer adds to what it has read",
          .options = []() -> std::unique_ptr<ResidualOptions> { return std::make_unique<AddOptions>(); },
          .make = [](const Declarations& d, const ResidualOptions& options) -> std::unique_ptr<Residual> {
            const auto& add = static_cast<const AddOptions&>(options);
            return std::make_unique<Add>(d, add.outlier_weight, add.outlier_limit);
          },
          .in_python = true,
          .example = R"({"residual": {"outlier_loss": 0.5, "outlier_limit": 0.7}})",
          .one_stream = true};
}

}  // namespace sluice
