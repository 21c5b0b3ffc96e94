// What a user may say of the parts of attention: their keys stand in model.attention, or in an element of a pattern.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/config/heads.h"
#include "model/config/part_options.h"

namespace sluice {

// "needs {needs}, but {found}"
struct Unmet {
  std::string needs, found;
};

class CoreOptions : public PartOptions {
 public:
  virtual std::unique_ptr<CoreOptions> clone() const = 0;
  // The softmax of scaled products and nothing else: what other programs call attention.
  virtual bool is_plain() const { return false; }
  // Why a fused softmax kernel cannot compute it; nothing where it can.
  virtual std::optional<Unmet> unmet_by_fused_softmax() const { return Unmet{"a core of its own kind", text()}; }
  // Whether it can drop attention weights (model.dropout.attention).
  virtual bool drops_weights() const { return false; }
  // How many keys a query sees at most, its own among them; 0: all up to its own.
  virtual int64_t reach() const { return 0; }
  // Of each attention that it does, beside one another: how many keys before it a query sees, for counting operations.
  virtual std::vector<int64_t> reaches() const { return {reach()}; }
};

class StageOptions : public PartOptions {
 public:
  virtual std::unique_ptr<StageOptions> clone() const = 0;
  virtual bool present() const = 0;
  // Refuses a core that it does not go with; `path` as for resolve(). UserError.
  virtual void check_core(const CoreOptions& /*core*/, const std::string& /*path*/) const {}
  // The sizes that it must be given so that it hands on `handed_on`.
  virtual HeadSizes asks(const HeadSizes& handed_on) const { return handed_on; }
  // Keys of the part's group that may also stand beside it, in model.attention.
  virtual std::vector<std::string> shortcuts() const { return {}; }
};

}  // namespace sluice
