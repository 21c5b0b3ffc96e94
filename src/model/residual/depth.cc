#include "model/residual/depth.h"

#include "base/error.h"
#include "kernels/ops/accumulate.h"

namespace sluice {
namespace {

using Form = DepthResidual::Form;

template <Form kForm>
ResidualPart part(const char* name, const char* summary, const char* example, const char* options_of = nullptr) {
  return {.name = name,
          .summary = summary,
          .options = []() -> std::unique_ptr<ResidualOptions> { return std::make_unique<DepthOptions>(); },
          .make = [](const Declarations& d, const ResidualOptions& options) -> std::unique_ptr<Residual> {
            return std::make_unique<DepthResidual>(d, kForm, static_cast<const DepthOptions&>(options));
          },
          .in_python = true,
          .example = example,
          .options_of = options_of};
}

std::string route_name(const Timeline& time, int sublayer) {
  if (sublayer == time.head_sublayer()) return "final_route";
  return fmt::format("blocks.{}.route{}", sublayer / 2, sublayer % 2 + 1);
}

double deviation(Form form, const DepthOptions& options) {
  if (options.init_std != DepthOptions::kFormsOwn) return options.init_std;
  return form == Form::kDelta ? 0.02 : 0;
}

}  // namespace

void DepthOptions::describe(Fields& group) {
  group.add("blocks", blocks, "what is mixed are the sums of so many blocks of layers; 0: every sublayer's output")
      .range(0, 1000)
      .not_written_as(0);
  group
      .add("init_std", init_std,
           "deviation of the initial queries, from which a token's weights come; with 0 all are the same at the start; "
           "-1: 0 with attention, 0.02 with delta")
      .range(-1, 10)
      .not_written_as(kFormsOwn);
}

void DepthOptions::resolve(const ModelConfig& model, const std::string& path) const {
  if (init_std < 0 && init_std != kFormsOwn)
    throw UserError("{}.init_std = {}: a deviation is 0 or above; -1 stands for the default", path, init_std);
  if (blocks > 0 && model.layers % blocks != 0)
    throw UserError("{}.blocks = {} must divide model.layers = {}", path, blocks, model.layers);
  const int64_t sources = (blocks > 0 ? blocks : 2 * model.layers) + 1, most = DepthRouteForward::kMostSources;
  if (sources > most)
    throw UserError("model.layers = {}: the residual mixes {} sources, of at most {}; {}.blocks makes them fewer",
                    model.layers, sources, most, path);
}

std::string DepthOptions::text() const {
  return blocks > 0 ? fmt::format("a mix of {} blocks' sums", blocks) : "a mix of all outputs";
}

DepthResidual::DepthResidual(const Declarations& d, Form form, const DepthOptions& options)
    : form_(form),
      width_(d.config.width),
      last_(d.timeline.head_sublayer()),
      step_(options.blocks > 0 ? last_ / options.blocks : 1),
      d_count_(last_ / step_ + 1),
      epsilon_(d.config.norm_epsilon),
      init_std_(deviation(form, options)),
      parallel_(d.config.parallel_residual) {
  const Timeline& time = d.timeline;
  const int64_t N = d.max_tokens();
  const int end = time.embedding_backward(), first_mixed = time.attention_backward(0);
  states_ =
      d.plan.declare("depth.states", "residual", {N, (last_ + 1) * width_}, d.act, {time.embedding(), first_mixed});
  mix_ = d.plan.declare("depth.mix", "residual", {N, width_}, d.act, {time.attention(0), first_mixed});
  d_sources_ = d.plan.declare("depth.d_sources", "gradients", {N, d_count_ * width_}, d.act, {time.head(), end});
  workspace_ = d.plan.declare("depth.workspace", "scratch", {d.backend.workspace<DepthRouteBackward>({width_})},
                              DType::kF32, {time.head(), first_mixed});
  d_mix_ = d.plan.declare("depth.d_mix", "gradients", {N, width_}, d.act, {time.head(), first_mixed});
}

// In block forms of `delta` the running sum is none.
int64_t DepthResidual::routed_at(int sublayer) const {
  if (form_ == Form::kAttention) return (sublayer + step_ - 1) / step_ + 1;
  return sublayer == last_ ? 0 : sublayer / step_ + 1;
}

void DepthResidual::declare(const Declarations& d, int sublayer) {
  Routing routing;
  if (reads(sublayer)) {
    routing.routed = routed_at(sublayer);
    if (routing.routed > 1) {
      const std::string name = route_name(d.timeline, sublayer);
      const Init initial = init_std_ > 0 ? Init::normal(init_std_) : Init::constant(0);
      routing.query = d.params.declare(name + ".query", {width_}, initial, DecayGroup::kVector);
      routing.gain = d.params.declare(name + ".gain", {width_}, Init::constant(1), DecayGroup::kNorm);
    }
  }
  routings_.push_back(routing);
}

DepthRouteForward DepthResidual::route(const Pass& pass, int sublayer) const {
  const Routing& routing = routings_[size_t(sublayer)];
  return {.states = view(pass, states_, last_ + 1).columns(0, (sublayer + 1) * width_),
          .step = step_,
          .last = sublayer,
          .routed = routing.routed,
          .base = form_ == Form::kDelta ? 1.0 : 0.0,
          .query = pass.params.value(routing.query),
          .gain = pass.params.value(routing.gain),
          .epsilon = epsilon_,
          .out = {}};
}

NormInput DepthResidual::input(const Pass& pass, int sublayer) const {
  return reads(sublayer) ? NormInput{.x = stream_at(pass, sublayer)} : NormInput{};
}

// A block's first sublayer begins its sum.
void DepthResidual::add(const Pass& pass, int sublayer) const {
  if (sublayer % step_ != 0) pass.backend.run(Accumulate{.out = state(pass, sublayer + 1), .x = state(pass, sublayer)});
}

Tensor DepthResidual::stream_at(const Pass& pass, int sublayer) const {
  DepthRouteForward op = route(pass, sublayer);
  op.out = view(pass, mix_, 1);
  pass.backend.run(op);
  return op.out;
}

// Of its block's sum.
Tensor DepthResidual::d_output(const Pass& pass, int sublayer) const {
  return view(pass, d_sources_, d_count_).columns(sublayer / step_ * width_ + width_, width_);
}

void DepthResidual::backward(const Pass& pass, int sublayer, const Tensor& d_stream) const {
  const Routing& routing = routings_[size_t(sublayer)];
  const DepthRouteForward forward = route(pass, sublayer);
  pass.backend.run(
      DepthRouteBackward{.forward = forward,
                         .d_out = d_stream,
                         .d_sources = view(pass, d_sources_, d_count_).columns(0, forward.sources() * width_),
                         .add_to_d_sources = sublayer != last_,
                         .d_query = routing.query ? pass.params.grad(routing.query) : Tensor{},
                         .d_gain = routing.gain ? pass.params.grad(routing.gain) : Tensor{},
                         .accumulate = pass.accumulate,
                         .workspace = pass.view(workspace_, pass.plan.buffer(workspace_).shape)});
}

ResidualPart attention_residual() {
  return part<Form::kAttention>("attention", "a mix of embedding and earlier outputs, weighted for each token",
                                R"({"residual": {"type": "attention"}})");
}

ResidualPart delta_residual() {
  return part<Form::kDelta>("delta", "sums, to which a sublayer that reads them adds such a mix",
                            R"({"residual": {"type": "delta", "init_std": 0.3}})", "attention");
}

}  // namespace sluice
