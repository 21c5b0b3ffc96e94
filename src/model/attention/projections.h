// The linear layers of attention: queries, keys and values from the layer's input, and the way back into the residual
// stream.
#pragma once

#include "model/config/heads.h"
#include "model/module/module.h"

namespace sluice {

class Projections {
 public:
  // `sizes` of what is projected; `results`: columns that the output projection reads.
  Projections(const Declarations& d, const std::string& name, int layer, const HeadSizes& sizes, int64_t results);

  const HeadSizes& sizes() const { return sizes_; }

  void forward(const Pass& pass, const Tensor& x) const;  // [N, C] to the tensors below
  // d_x (overwritten) from the gradients of these.
  void backward(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const;

  void output(const Pass& pass, const Tensor& out, const Tensor& results) const;  // [N, C] from [N, results]
  void output_backward(const Pass& pass, const Tensor& d_results, const Tensor& d_out, const Tensor& results,
                       const Tensor& workspace) const;
  Tensor output_weight(const Pass& pass) const { return pass.params.weight(output_); }  // [C, results]

  Tensor queries_and_keys(const Pass& pass) const { return first(pass, projected_); }  // [N, H_q D_qk + H_kv D_qk]
  Tensor values(const Pass& pass) const { return last(pass, projected_); }             // [N, H_kv D_v]
  Tensor d_queries_and_keys(const Pass& pass) const { return first(pass, d_projected_); }
  Tensor d_values(const Pass& pass) const { return last(pass, d_projected_); }

 private:
  Tensor all(const Pass& pass, BufferId id) const { return pass.view(id, {pass.N(), sizes_.projected_columns()}); }
  Tensor first(const Pass& pass, BufferId id) const {
    return all(pass, id).columns(0, sizes_.query_columns() + sizes_.key_columns());
  }
  Tensor last(const Pass& pass, BufferId id) const {
    return all(pass, id).columns(sizes_.query_columns() + sizes_.key_columns(), sizes_.value_columns());
  }

  HeadSizes sizes_;
  ParamId qkv_, qkv_bias_, output_, output_bias_;
  BufferId projected_, d_projected_;
};

}  // namespace sluice
