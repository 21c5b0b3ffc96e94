// The tensors of a folder under the names that its family gives them, whatever wrapper stood around the model when it
// was saved: torch.compile ("_orig_mod."), DDP and FSDP ("module.", ...), a class with the model in a field ("net."),
// or the model without its head ("h.0" instead of "transformer.h.0").
#pragma once

#include <map>
#include <string>
#include <vector>

#include "interchange/tensor_parts.h"
#include "interchange/weight_folder.h"

namespace sluice {

class StoredTensors {
 public:
  // `parts` have the family's names. The folder must outlive this. UserError where two tensors become one.
  StoredTensors(const WeightFolder& weights, Architecture architecture, const std::vector<TensorPart>& parts);

  using Found = WeightFolder::Found;
  const std::map<std::string, Found>& tensors() const { return tensors_; }
  const Found* find(const std::string& name) const;
  // What the folder calls, or would call, a tensor of the family.
  std::string stored_name(const std::string& name) const;
  // "module.a is read as a", of one tensor, where a wrapper's part of the names is left out; else empty.
  const std::string& unwrapped() const { return unwrapped_; }
  // "a, b, c and 20 more", for messages: names as the folder has them.
  std::string some_names() const;

 private:
  std::map<std::string, Found> tensors_;
  std::string unwrapped_;
  std::string outer_;   // a prefix of every name in the folder, which the family's names have not
  std::string prefix_;  // of the family, which the folder's names have not
};

}  // namespace sluice
