// What tests that compare whole models share: configs from JSON, tensors of the CPU backend as doubles, distances.
#pragma once

#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "model/transformer.h"

namespace sluice::parity {

using Values = std::vector<double>;

inline ModelConfig model_config(const Json& json) {
  ModelConfig config;
  Fields fields;
  config.describe(fields);
  fields.parse(json, "model");
  config.resolve();
  return config;
}

// body(element i of the tensor as f32 or f64), row by row.
template <class Body>
void for_elements(const Tensor& x, Body body) {
  for (int64_t i = 0; i < x.elements(); ++i) {
    const int64_t at = i / x.cols() * x.stride + i % x.cols();
    if (x.dtype == DType::kF64) body(size_t(i), x.as<double>()[at]);
    else if (x.dtype == DType::kF32) body(size_t(i), x.as<float>()[at]);
    else throw std::logic_error(fmt::format("for_elements: {} is neither f32 nor f64", name_of(x.dtype)));
  }
}

inline Values values_of(const Tensor& x) {
  Values out(size_t(x.elements()));
  for_elements(x, [&](size_t i, auto value) { out[i] = double(value); });
  return out;
}

inline void assign(const Tensor& x, const Values& from) {
  check_eq(x.elements(), int64_t(from.size()), "assign: element count");
  for_elements(x, [&](size_t i, auto& value) { value = std::remove_reference_t<decltype(value)>(from[i]); });
}

inline double norm_of(const Values& x) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  return std::sqrt(sum);
}

// |x - y| / |y|; just |x - y| where y is zero.
inline double distance(const Values& x, const Values& y) {
  check_eq(x.size(), y.size(), "distance: element count");
  Values difference(x.size());
  for (size_t i = 0; i < x.size(); ++i) difference[i] = x[i] - y[i];
  const double norm = norm_of(y);
  return norm_of(difference) / (norm > 0 ? norm : 1);
}

inline ParamId named(const Transformer& model, const std::string& name) {
  const ParamId id = model.params().find(name);
  check(bool(id), ("the model has no parameter " + name).c_str());
  return id;
}
inline Values parameter(const Transformer& model, const std::string& name) {
  return values_of(model.params().value(named(model, name)));
}
inline Values gradient(const Transformer& model, const std::string& name) {
  return values_of(model.params().grad(named(model, name)));
}

// [B*T, V]
inline Values logits_of(Transformer& model, const std::vector<int32_t>& tokens, int64_t B, int64_t T) {
  Values out;
  model.for_logits(model.forward({tokens.data(), nullptr, B, T}), [&](int64_t, const Tensor& chunk) {
    const Values rows = values_of(chunk);
    out.insert(out.end(), rows.begin(), rows.end());
  });
  return out;
}

}  // namespace sluice::parity
