// What quantizing costs a model: its loss and perplexity before and after, which of weights and inputs cost what, and
// which layers. As a table and as JSON.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "measure/quantizer.h"

namespace sluice {

struct LayerCost {
  double only = 0;    // the loss with this layer alone quantized, less the model's own
  double except = 0;  // the loss with all quantized, less that with all but this one: what leaving it alone wins back
};

struct QuantizationReport {
  QuantizationOptions options;
  std::vector<QuantizedLinear> linears;
  int64_t context = 0, calibration_sequences = 0, sequences = 0, layer_sequences = 0;
  double plain = 0, quantized = 0, weights_only = 0, inputs_only = 0;  // losses over `sequences`, nats
  std::vector<LayerCost> costs;  // of each linear, over `layer_sequences`; or none
  double all_activations = 0;    // the loss with all of them quantized too, where the options ask for it
  std::vector<QuantizedActivation> activations;

  std::string name() const;  // "W8A8"
  Json json() const;
};

// `quantizer` has been calibrated. layer_sequences: of each layer's two losses, 0: none are taken. RunError if the
// model's own loss is not finite. `progress` is told what is being measured: "layer 3 of 20".
QuantizationReport measure_quantization(Quantizer& quantizer, const DataSource& held_out, int64_t sequences,
                                        int64_t layer_sequences,
                                        const std::function<void(const std::string&)>& progress = {});

// The table; at most `width` characters a line where that is possible, 0: no limit.
std::string to_text(const QuantizationReport& report, size_t width = 0);

}  // namespace sluice
