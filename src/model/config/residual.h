// model.residual: which residual of the list in parts.h a model has, with its keys.
#pragma once

#include <string>
#include <vector>

#include "base/config/config.h"
#include "model/config/part_options.h"

namespace sluice {

class ResidualOptions : public PartOptions {
 public:
  virtual std::unique_ptr<ResidualOptions> clone() const = 0;
};

struct ResidualPart;

class ResidualConfig {
 public:
  ResidualConfig();

  std::string type = "add";

  void describe(Fields& fields);
  void resolve(const ModelConfig& model) const;  // UserError

  const ResidualPart& part() const;
  const ResidualOptions& options() const;
  bool is_plain() const { return type == "add"; }  // what other programs call the residual stream

 private:
  size_t index(const std::string& name) const;

  std::vector<Held<ResidualOptions>> options_;  // as in residuals()
};

}  // namespace sluice
