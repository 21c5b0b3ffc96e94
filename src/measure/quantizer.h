// Simulated quantization of a trained model, as in arXiv 2306.12929: every linear layer of the blocks, and of
// model.head_transform, multiplies an input and a weight that have been put on grids of 2^bits points and back; what is
// added up, and everything else (embeddings, norms, biases, scores, the output matrix) stays as it is, unless all
// activations are asked for. Inputs have one static grid a layer, from calibration data; weights one for each matrix (a
// layer's queries, keys and values are three), or one for each row
// ("per channel").
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/batches.h"
#include "measure/activation_quantizer.h"
#include "measure/quantization_grid.h"
#include "model/transformer.h"

namespace sluice {

struct QuantizationOptions {
  int weight_bits = 8, input_bits = 8;  // 2 to 16
  bool mse_weights = false;             // the least squared error instead of the largest |w|
  bool per_channel = false;
  std::optional<double> percentile;  // of the inputs, 99 to 100; absent: running least and greatest
  double momentum = 0.9;             // of the running range, by batch
  int64_t calibration_batches = 16;  // of the model's max_batch sequences
  bool all_activations = false;      // beside them: activation_quantizer.h
};

struct QuantizedLinear {
  std::string name;  // "blocks.0.attention.qkv"
  ParamId weight;
  int64_t out = 0, in = 0;         // of the weight
  double weight_norm = 0;          // the largest |w|
  std::vector<Grid> weight_grids;  // one for each matrix that is stacked in it (queries, keys, values), or for each row
  std::vector<int64_t> grid_rows;  // of each of them; their sum is `out`
  GridError weight_error;
  Range seen;             // of the inputs, over the calibration data
  double input_norm = 0;  // a sequence's largest |x|, mean over the sequences: its infinity norm
  Grid input_grid;
  GridError input_error;  // over the calibration data
};

// Which operands are quantized.
struct QuantizedPart {
  bool weights = true, inputs = true;
  bool activations = false;                      // all others too, where the options say so
  std::optional<size_t> only = {}, except = {};  // of linears()
};

class Quantizer final : public LinearHook {
 public:
  // The model must outlive it, and has its hook while it works. Its type should be f32 or f64: bf16 has fewer digits
  // than the products of integers and scales. UserError where all activations are asked for and sublayers read
  // mixes of many streams.
  Quantizer(Transformer& model, const QuantizationOptions& options);
  ~Quantizer() override;

  // Looks at the first calibration_batches * max_batch sequences, twice: for the ranges, and for what the grids laid
  // over them do to the inputs. RunError where a value is not finite.
  void calibrate(const DataSource& data);

  const std::vector<QuantizedLinear>& linears() const { return linears_; }  // in the order in which they run
  const std::vector<QuantizedActivation>& activations_found() const;        // as they are made; none unless asked for
  const QuantizationOptions& options() const { return options_; }
  const Transformer& model() const { return model_; }

  // Mean loss over the first `sequences` of `data`, nats; of the model itself, or with `part` of it quantized.
  double loss(const DataSource& data, int64_t sequences);
  double loss(const DataSource& data, int64_t sequences, const QuantizedPart& part);

  LinearOperands operands(const Pass& pass, ParamId weight, const LinearOperands& given) override;
  ActivationHook* activations() override;

 private:
  using Task = QuantizationTask;
  struct Observation;

  void run_calibration(Task task, const DataSource& data, int64_t batches);
  void observe(size_t linear, const Pass& pass, const Tensor& x);
  size_t add_linear(const Pass& pass, ParamId weight, const LinearOperands& given);
  void lay_grids();
  void quantize_weights();
  std::vector<double> largest_of_rows(const QuantizedLinear& linear, const Tensor& weight);
  void lay_weight_grids(QuantizedLinear& linear, const Tensor& weight);
  void quantize_weight(const QuantizedLinear& linear, const Tensor& out, const Tensor& weight);
  bool quantizes(size_t linear) const;

  Transformer& model_;
  const QuantizationOptions options_;
  Task task_ = Task::kRanges;
  QuantizedPart part_;
  std::vector<QuantizedLinear> linears_;
  std::vector<std::unique_ptr<Observation>> observations_;
  std::vector<int> linear_of_;            // by parameter; -1: none
  std::vector<Tensor> weights_, scales_;  // of each linear, quantized; its input's scale [1]
  Arena weight_memory_, scale_memory_, input_memory_;
  BatchReader batches_;
  std::unique_ptr<ActivationQuantizer> all_;
};

}  // namespace sluice
