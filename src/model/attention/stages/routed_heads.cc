#include "model/attention/stages/routed_heads.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/host_copy.h"
#include "model/attention/stages/queries_and_keys/unit_length.h"

namespace sluice {

// ---- options --------------------------------------------------------------------------------------------------------

void RoutedHeadsConfig::describe(Fields& f) {
  f.add(
      "type", type,
      "how each row takes some of the heads alone (MoH, arXiv 2410.11842): none (it takes all), linear (by a softmax "
      "of the layer's input times a matrix, which scales them), query_norm (those with the longest queries, unscaled)");
  const std::vector<std::string> routed = {"linear", "query_norm"};
  f.add("shared", shared, "the first so many heads are always taken; -1: a quarter of all")
      .range(-1, kMostRoutedHeads)
      .when("type", routed);
  f.add("active", active,
        "of the other heads, those that a row takes; 0: as many as make half of all heads with the shared ones")
      .range(0, kMostRoutedHeads)
      .when("type", routed);
  f.add("balance", balance, "weight of a loss that has all heads that are not shared be taken alike; 0: none")
      .range(0, 1e3)
      .when("type", routed);
}

HeadRouting RoutedHeadsConfig::routing(int64_t heads) const {
  const int64_t always = shared < 0 ? heads / 4 : shared;
  const int64_t taken = active > 0 ? active : std::max<int64_t>(1, heads / 2 - always);
  return {.heads = int32_t(heads),
          .shared = int32_t(always),
          .active = int32_t(taken),
          .mask = type == HeadRouter::kQueryNorm};
}

void RoutedHeadsOptions::describe(Fields& attention) {
  attention.add_group("routed_heads", routed_heads, "each row takes some of the heads alone (arXiv 2410.11842)");
}

namespace {

// The group's own weight of the loss: the loss is 1 where the paper's is K.
double loss_weight(const RoutedHeadsConfig& config, int64_t heads) {
  return config.balance * config.routing(heads).active;
}

const RoutedHeadsConfig* routed_heads_of(const AttentionConfig& attention) {
  const auto& options = attention.options<RoutedHeadsOptions>();
  return options.present() ? &options.routed_heads : nullptr;
}

// The lengths of queries must be free to differ from head to head.
void check_query_norm(const ModelConfig& model, const AttentionConfig& attention, const HeadRouting& routing,
                      const std::string& path) {
  const std::string where = path + ".routed_heads.type = query_norm";
  if (routing.routed() < 2)
    throw UserError("{} compares the heads that are not shared, but there is {} ({}.routed_heads.shared, model.heads)",
                    where, routing.routed(), path);
  if (model.qk_norm) throw UserError("{} goes by the lengths of queries, which model.qk_norm makes equal", where);
  if (attention.options<UnitLengthOptions>().present())
    throw UserError("{} goes by the lengths of queries, which {}.unit_length makes equal", where, path);
  for (const StageOptions* stage : attention.stages())
    if (stage->asks(model.head_sizes()).query_columns() != model.head_sizes().query_columns())
      throw UserError("{} needs one query for each head, and there are more with this: {}", where, stage->text());
}

}  // namespace

void RoutedHeadsOptions::resolve(const ModelConfig& model, const std::string& path) const {
  if (!present()) return;
  const HeadRouting routing = routed_heads.routing(model.heads);
  if (model.heads > kMostRoutedHeads)
    throw UserError("{}.routed_heads takes up to {} heads, but model.heads is {}", path, kMostRoutedHeads, model.heads);
  if (routing.shared >= routing.heads)
    throw UserError("{}.routed_heads.shared is {}, which leaves none of the model.heads = {} to choose from", path,
                    routing.shared, routing.heads);
  if (routing.active > routing.routed())
    throw UserError("{}.routed_heads.active is {}, but beside the shared ones there are {} of model.heads = {}", path,
                    routing.active, routing.routed(), routing.heads);
  for (const AttentionConfig* attention : model.attention.kinds()) {
    const RoutedHeadsConfig* other = routed_heads_of(*attention);
    if (other == &routed_heads && routing.mask) check_query_norm(model, *attention, routing, path);
    if (!other || other->balance == 0 || routed_heads.balance == 0) continue;
    if (loss_weight(*other, model.heads) != loss_weight(routed_heads, model.heads))
      throw UserError(
          "{}.routed_heads: balance times active is {} here and {} in other layers, but all have one loss; give them "
          "one, or 0",
          path, loss_weight(routed_heads, model.heads), loss_weight(*other, model.heads));
  }
}

std::string RoutedHeadsOptions::text() const {
  const auto number = [](int64_t given, int64_t open, const char* words) {
    return given == open ? std::string(words) : fmt::format("{}", given);
  };
  return fmt::format("routed heads: {} shared, {} of the others by {}", number(routed_heads.shared, -1, "a quarter"),
                     number(routed_heads.active, 0, "to a half"), choice_name(routed_heads.type));
}

// ---- the stage ------------------------------------------------------------------------------------------------------

RoutedHeads::RoutedHeads(const LayerPlace& place, const RoutedHeadsConfig& config)
    : routing_(config.routing(place.sizes.H_q)) {
  const Declarations& d = place.d;
  const std::string name = place.name + ".routed_heads";
  if (!routing_.mask) weight_ = d.linear(name, routing_.logits(), d.config.width);
  if (config.balance > 0) loss_ = d.losses.declare("head_balance", loss_weight(config, place.sizes.H_q));
  for (int64_t layer = 0; layer < d.config.layers; ++layer) {
    const RoutedHeadsConfig* of_layer = routed_heads_of(d.config.attention.of(layer));
    layers_ += of_layer && of_layer->balance > 0;
  }
  const int back = d.timeline.attention_backward(place.layer);
  const Shape shape = {d.max_tokens(), routing_.logits()};
  logits_ = d.attention_activation(place.layer, name + ".logits", "activations", shape, d.act);
  d_logits_ = d.plan.declare(name + ".d_logits", "scratch", shape, d.act, {back, back});
  result_ = d.attention_activation(place.layer, name + ".result", "activations",
                                   {d.max_tokens(), place.sizes.result_columns()}, d.act);
}

void RoutedHeads::forward(const Pass& pass, const Tensor& in, const StageReads& reads) const {
  if (weight_) pass.linear(logits(pass), reads.x, weight_, {});
  else
    pass.backend.run(QueryLengthsForward{
        .heads = routing_.heads, .shared = routing_.shared, .q = reads.queries, .logits = logits(pass)});
  pass.backend.run(RouteHeadsForward{.routing = routing_, .x = in, .logits = logits(pass), .out = result(pass, in)});
}

Tensor RoutedHeads::backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& /*reads*/,
                             const Tensor& /*workspace*/) const {
  pass.backend.run(RouteHeadsBackward{.forward = {.routing = routing_, .x = in, .logits = logits(pass), .out = {}},
                                      .d_out = d_result,
                                      .d_x = d_result,
                                      .d_logits = d_logits(pass)});
  if (loss_) {
    const auto sequences = double(layers_ * pass.B);
    pass.backend.run(RouteBalance{.routing = routing_,
                                  .T = pass.T,
                                  .value_scale = pass.share / sequences,
                                  .grad_scale = pass.loss_scale(loss_) / sequences,
                                  .logits = logits(pass),
                                  .d_logits = d_logits(pass),
                                  .loss = pass.loss(loss_)});
  }
  return d_result;
}

void RoutedHeads::backward_queries(const Pass& pass, const Tensor& d_q, const Tensor& q) const {
  if (weight_) return;
  pass.backend.run(QueryLengthsBackward{
      .heads = routing_.heads, .shared = routing_.shared, .q = q, .d_logits = d_logits(pass), .d_q = d_q});
}

void RoutedHeads::backward_input(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const {
  if (weight_) pass.linear_backward(d_x, true, d_logits(pass), x, weight_, {}, workspace);
}

std::vector<double> RoutedHeads::openings(const Pass& pass) const {
  const std::vector<double> rows = host_numbers(pass.backend, logits(pass));
  std::vector<double> out;
  for (int64_t n = 0; n < pass.N(); ++n) {
    out.insert(out.end(), size_t(routing_.shared), 1.0);
    for (int e = 0; e < routing_.routed(); ++e)
      out.push_back(is_active(rows.data() + n * routing_.logits(), e, routing_) ? 1 : 0);
  }
  return out;
}

// ---- in the list ----------------------------------------------------------------------------------------------------

StagePart routed_heads_stage() {
  return {.name = "routed_heads",
          .summary = "each row takes some of the heads alone",
          .options = []() -> std::unique_ptr<StageOptions> { return std::make_unique<RoutedHeadsOptions>(); },
          .make = [](const LayerPlace& place, const StageOptions* options) -> std::unique_ptr<Stage> {
            if (!options->present()) return nullptr;
            return std::make_unique<RoutedHeads>(place, static_cast<const RoutedHeadsOptions*>(options)->routed_heads);
          },
          .in_python = true,
          .example = R"({"heads": 5, "head_size": 6,
                         "attention": {"routed_heads": {"type": "linear", "shared": 2, "active": 2, "balance": 0.5}}})"};
}

}  // namespace sluice
