// The list of residuals, which configs, schema, models, tests and docs walk.
//
// A new one is a header with its source and one line in residuals.cc (CONTRIBUTING.md, "A residual").
#pragma once

#include <memory>
#include <vector>

#include "model/residual/config.h"

namespace sluice {

class Residual;
struct Declarations;

struct ResidualPart {
  const char* name;  // in model.residual
  const char* summary;
  std::unique_ptr<ResidualOptions> (*options)();
  std::unique_ptr<Residual> (*make)(const Declarations& d, const ResidualOptions& options);
  bool in_python;       // interchange/modeling_sluice.py computes it too; a model with others cannot be exported
  const char* example;  // JSON: what a model says to have it; tests of all residuals begin with it
};

const std::vector<ResidualPart>& residuals();

// A residual that stands in the list as long as this lives, last: for tests, and for programs with parts of their own.
// No model or config with it may outlive it.
class ListedResidual {
 public:
  explicit ListedResidual(ResidualPart part);
  ~ListedResidual();
  ListedResidual(const ListedResidual&) = delete;
  ListedResidual& operator=(const ListedResidual&) = delete;
};

}  // namespace sluice
