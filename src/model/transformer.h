// A transformer, decoder or encoder: embedding, blocks, head. It knows no device, no optimizer and no data.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/batch.h"
#include "model/block.h"
#include "model/fixed_stream.h"
#include "model/head.h"
#include "model/memory_need.h"
#include "model/module/dropout.h"
#include "model/module/last_keys.h"
#include "model/module/passing_gradients.h"
#include "model/module/registers.h"
#include "model/predictions.h"
#include "model/residual/residual.h"

namespace sluice {

struct TransformerOptions {
  DType act = DType::kF32;         // activations' type; f64 is for gradient checks
  int64_t max_batch = 1;           // sequences of one micro-batch
  bool training = true;            // with gradients
  bool allocate = true;            // false: only declared, so that params().specs() can be looked at
  double state_per_parameter = 0;  // bytes that the owner will allocate for each beside, such as an optimizer's
  std::string batch_key = {};      // what sets max_batch, for messages: "train.micro_batch", "--batch"
  Recompute recompute = Recompute::kNone;
  std::vector<DecayGroup> decayed = {DecayGroup::kMatrix, DecayGroup::kEmbedding, DecayGroup::kNorm,
                                     DecayGroup::kVector};
  GradientLayout gradients = {};
};

class Transformer {
 public:
  // Declares, plans and allocates; values are zero until initialise() or a checkpoint fills them. The config must be
  // resolved.
  Transformer(Backend& backend, const ModelConfig& config, const TransformerOptions& options);

  void initialise(uint64_t seed) {
    params_.initialise(backend_, seed);
    averages_.initialise(backend_);
  }

  // Forward and backward of one micro-batch. The gradients of the sum of the B*T losses times grad_scale are written,
  // or added with `accumulate`. Returns the sum of the losses. `draws`: by what values are dropped (model.dropout).
  double forward_backward(const Batch& batch, double grad_scale, bool accumulate, GradientListener* listener = nullptr,
                          const Draws& draws = {});
  // Sum of the losses of one micro-batch.
  double loss(const Batch& batch);
  // Each token's loss, [B * T]; 0 where the target is negative.
  std::vector<double> token_losses(const Batch& batch);
  // Runs the blocks and the final norm. What a block computed can be looked at with the pass in after_block(pass,
  // layer); later blocks may use its memory, but the residual stream stays until the next run. scratch().normed is free
  // there.
  using AfterBlock = std::function<void(const Pass&, int64_t layer)>;
  Pass forward(const Batch& batch, const AfterBlock& after_block = {});
  // Runs tokens that follow those in the state, which then holds them too: T = 1, or any into an empty one.
  Pass extend(const Batch& batch, DecoderState& state);
  // The logits of every sequence's last token, after forward() or extend(): as for_logits, with B rows in all.
  template <class Body>
  void for_last_logits(const Pass& pass, Body body) const {
    Tensor last = head_->input(pass, scratch(pass).normed).row_range(pass.T - 1, 1);
    last.shape = {pass.B, config_.width};
    last.stride *= pass.T;
    head_->for_logits(pass, last, body);
  }
  // Of the step so far, from the last forward_backward() without `accumulate` on: each part's loss, by its place in
  // losses().list(), with the share of the tokens that were seen.
  std::vector<double> part_losses() const;
  // Set for loss() and forward(), null to take it away; it must outlive its use. Not for forward_backward(). What
  // model.head_transform multiplies it sees in loss() alone.
  void set_hook(LinearHook* hook) { hook_ = hook; }
  // Forward, loss and, unless grad_scale is 0, backward of one micro-batch, with an observer between the ops. As with
  // forward_backward, the parameters' gradients are overwritten, and the sum of the losses returned.
  double observe(const Batch& batch, double grad_scale, PassObserver& observer);
  // The logits of the last forward(): body(first token, logits [tokens, V]) for every chunk of the batch's tokens.
  template <class Body>
  void for_logits(const Pass& pass, Body body) const {
    const Tensor x = head_->input(pass, scratch(pass).normed);
    const int64_t R = config_.registers, T = pass.T - R;
    if (R == 0) return head_->for_logits(pass, x, body);
    for (int64_t b = 0; b < pass.B; ++b)
      head_->for_logits(pass, x.row_range(b * pass.T + R, T),
                        [&](int64_t first, const Tensor& chunk) { body(b * T + first, chunk); });
  }

  const ModelConfig& config() const { return config_; }
  Backend& backend() const { return backend_; }
  Params& params() { return params_; }
  const Params& params() const { return params_; }
  const MemoryPlan& plan() const { return plan_; }
  const StatePlan& states() const { return states_; }
  const MovingAverages& averages() const { return averages_; }
  const PartLosses& losses() const { return losses_of_parts_; }
  const std::vector<Block>& blocks() const { return blocks_; }
  int64_t max_batch() const { return options_.max_batch; }
  // Sequences that a pass has behind the batch's (FixedStream): a decoder's state needs room for them. A pass that was
  // shown is the batch's; here it is as it ran, for statistics that are kept of all.
  int64_t fixed_sequences() const { return FixedStream::sequences_of(config_); }
  Pass as_it_ran(const Pass& shown) const { return stream_->with(shown); }
  MemoryNeed memory_need() const;  // also where nothing was allocated
  DType act() const { return options_.act; }
  size_t arena_bytes() const { return arena_.bytes(); }

  // The residual stream that a block reads, [N, C], or of layer L the head; valid after forward(), until asked for
  // another's.
  Tensor stream_before(const Pass& pass, int64_t layer) const;
  BlockScratch scratch(const Pass& pass) const;

 private:
  // Uploads what every run reads. `state`: whose tokens these follow, null: none.
  Pass begin_pass(const Batch& tokens, bool accumulate = false, double grad_scale = 0,
                  const DecoderState* state = nullptr);
  // What the parts add up over a step starts from nothing.
  void begin_sums(const Pass& pass);
  // Of the batch's rows that the head has (Predictions); with grad_scale other than 0 also scratch().d_normed.
  Tensor head_loss(const Pass& pass, double grad_scale);
  void embedding_backward(const Pass& pass) const;
  Timeline timeline() const { return {int(config_.layers)}; }
  Tensor positions(const Pass& pass) const;
  Tensor registers(const Pass& pass) const;
  void run_forward(const Pass& pass, const AfterBlock& after_block = {});
  Pass forward_pass(const Batch& batch, const AfterBlock& after_block = {});
  // Sections of the parameters: the embedding's, each block's, the head's.
  static constexpr int kEmbeddingSection = 0;
  int head_section() const { return int(blocks_.size()) + 1; }
  std::vector<Lifetime> gradient_uses(const Timeline& time) const;  // of each section
  // From the gradient of the final norm's result that of everything else: the ops of one section after the other, from
  // the head's to the embedding's. body(section, ops).
  template <class Body>
  void backward(const Pass& pass, Body body) const;
  void learn_with(GradientListener& listener, const Pass& pass, const std::string& key,
                  const std::function<void()>& head_loss);
  void upload(const Pass& pass, BufferId buffer, const int32_t* from);
  Tensor per_token(const Pass& pass, BufferId buffer) const { return pass.view(buffer, {pass.N()}); }
  Declarations declarations();

  Backend& backend_;
  const ModelConfig config_;
  const TransformerOptions options_;
  const int64_t id_;  // of this object: tells its recorded steps from another's
  LinearHook* hook_ = nullptr;
  Params params_;
  MemoryPlan plan_;
  StatePlan states_;
  MovingAverages averages_;
  PartLosses losses_of_parts_;
  Arena arena_;

  ParamId token_embedding_, position_embedding_, segment_embedding_;
  BufferId tokens_, losses_, document_starts_, rope_table_;
  BufferId normed_, delta_, d_normed_, workspace_;
  BufferId embedded_, d_embedded_, d_embedding_;  // see BlockScratch
  std::optional<Registers> registers_;
  std::optional<Predictions> predictions_;
  std::optional<LastKeys> last_keys_;
  std::optional<FixedStream> stream_;
  std::optional<DropoutKeys> dropout_keys_;
  std::optional<DropoutLayer> embedding_dropout_;
  std::unique_ptr<Residual> residual_;
  std::vector<Block> blocks_;
  std::optional<Head> head_;
  PassingGradients passing_gradients_;  // none, unless asked for
};

}  // namespace sluice
