// The linear layers of attention: queries, keys and values from the layer's input, and the way back into the residual
// stream. Where queries and keys have another source, their rows of the weight multiply that: of a fixed stream, which
// is the pass's last sequence, they are made for its rows alone.
#pragma once

#include "model/config/heads.h"
#include "model/config/qk_source.h"
#include "model/sublayers/mixer.h"

namespace sluice {

class Projections {
 public:
  // `sizes` of what is projected; `results`: columns that the output projection reads.
  Projections(const Declarations& d, const std::string& name, int layer, const HeadSizes& sizes, int64_t results,
              QkSource qk_source);

  const HeadSizes& sizes() const { return sizes_; }

  void forward(const Pass& pass, const MixerInput& in) const;  // [N, C] to the tensors below
  // d_in (overwritten) from the gradients of these.
  void backward(const Pass& pass, const MixerInput& d_in, const MixerInput& in, const Tensor& workspace) const;

  void output(const Pass& pass, const Tensor& out, const Tensor& results) const;  // [N, C] from [N, results]
  void output_backward(const Pass& pass, const Tensor& d_results, const Tensor& d_out, const Tensor& results,
                       const Tensor& workspace) const;
  Tensor output_weight(const Pass& pass) const { return pass.params.weight(output_); }  // [C, results]

  Tensor queries_and_keys(const Pass& pass) const { return first(pass, projected_); }  // [N, H_q D_qk + H_kv D_qk]
  Tensor values(const Pass& pass) const { return last(pass, projected_); }             // [N, H_kv D_v]
  Tensor d_queries_and_keys(const Pass& pass) const { return first(pass, d_projected_); }
  Tensor d_values(const Pass& pass) const { return last(pass, d_projected_); }

 private:
  // Some columns of what is projected, of some rows.
  struct Part {
    int64_t first, count, first_row, rows;
    Tensor of(const Tensor& projected) const { return projected.row_range(first_row, rows).columns(first, count); }
    Tensor rows_of(const Tensor& x) const { return x.row_range(first_row, rows); }
  };
  Part values_part(const Pass& pass) const;
  Part queries_and_keys_part(const Pass& pass) const;
  void project(const Pass& pass, const Part& part, const LinearOperands& in) const;
  void project_back(const Pass& pass, const Part& part, const Tensor& d_x, bool add_to_d_x, const Tensor& x,
                    const Tensor& workspace) const;

  Tensor all(const Pass& pass, BufferId id) const { return pass.view(id, {pass.N(), sizes_.projected_columns()}); }
  Tensor first(const Pass& pass, BufferId id) const {
    return all(pass, id).columns(0, sizes_.query_columns() + sizes_.key_columns());
  }
  Tensor last(const Pass& pass, BufferId id) const {
    return all(pass, id).columns(sizes_.query_columns() + sizes_.key_columns(), sizes_.value_columns());
  }

  HeadSizes sizes_;
  QkSource qk_source_;
  ParamId qkv_, qkv_bias_, output_, output_bias_;
  BufferId projected_, d_projected_;
};

}  // namespace sluice
