#include "model/attention/stages/queries_and_keys/qk_source.h"

namespace sluice {

void SharedQueriesAndKeys::forward(const Pass& pass, const Tensor& in, const StageReads& /*reads*/) const {
  const int64_t stream = pass.N() - pass.T;  // its first row
  pass.backend.run(ShareRowsForward{.out = in.row_range(0, stream), .x = in.row_range(stream, pass.T)});
}

Tensor SharedQueriesAndKeys::backward(const Pass& pass, const Tensor& d_result, const Tensor& /*in*/,
                                      const StageReads& /*reads*/, const Tensor& /*workspace*/) const {
  const int64_t stream = pass.N() - pass.T;
  pass.backend.run(
      ShareRowsBackward{.d_x = d_result.row_range(stream, pass.T), .d_out = d_result.row_range(0, stream)});
  return d_result;
}

StagePart qk_source_stage() {
  return {.name = "qk_source",
          .summary = "queries and keys of the token embedding, or of a fixed stream",
          .options = []() -> std::unique_ptr<StageOptions> { return std::make_unique<QkSourceOptions>(); },
          .make = [](const LayerPlace&, const StageOptions* options) -> std::unique_ptr<Stage> {
            const bool shared = static_cast<const QkSourceOptions*>(options)->qk_source.is_stream();
            return shared ? std::make_unique<SharedQueriesAndKeys>() : nullptr;
          },
          .in_python = true,
          .example = R"({"attention": {"type": "custom", "qk_source": "embedding"}})",
          .on_queries_and_keys = true};
}

}  // namespace sluice
