// The list of residuals, which configs, schema, models, tests and docs walk.
//
// A new one is a header with its source and one line in residuals.cc (CONTRIBUTING.md, "A residual").
#pragma once

#include <memory>
#include <vector>

#include "base/part_list.h"
#include "model/config/residual.h"

namespace sluice {

class Residual;
struct Declarations;

struct ResidualPart {
  const char* name;  // in model.residual
  const char* summary;
  std::unique_ptr<ResidualOptions> (*options)();
  std::unique_ptr<Residual> (*make)(const Declarations& d, const ResidualOptions& options);
  bool in_python;           // interchange/modeling_sluice.py computes it too; a model with others cannot be exported
  const char* example;      // JSON: what a model says to have it; tests of all residuals begin with it
  bool one_stream = false;  // a sublayer reads what the one before has left, and no mix of many
  const char* options_of = nullptr;  // the part before whose options and keys are this one's too
};

const std::vector<ResidualPart>& residuals();

template <>
std::vector<ResidualPart>& part_list();
using ListedResidual = Listed<ResidualPart>;

}  // namespace sluice
