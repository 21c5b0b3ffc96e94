// Named tensors that own their memory, for the tests of files.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "runs/tensors/safetensors.h"

namespace sluice {

class TestTensors {
 public:
  // The bytes are counted on from `seed`.
  void add(const std::string& name, DType dtype, Shape shape, int seed) {
    Tensor tensor(nullptr, dtype, shape);
    memory_.push_back(std::make_unique<std::vector<char>>(tensor.bytes()));
    std::vector<char>& bytes = *memory_.back();
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = char(size_t(seed) + i * 7);
    tensor.data = bytes.data();
    list_.push_back({name, tensor});
  }
  void clear_values() {
    for (auto& bytes : memory_) std::fill(bytes->begin(), bytes->end(), char(0));
  }
  const std::vector<NamedTensor>& list() const { return list_; }
  bool same_values(const TestTensors& other) const {
    if (list_.size() != other.list_.size()) return false;
    for (size_t i = 0; i < list_.size(); ++i) {
      if (list_[i].name != other.list_[i].name || *memory_[i] != *other.memory_[i]) return false;
    }
    return true;
  }

 private:
  std::vector<std::unique_ptr<std::vector<char>>> memory_;
  std::vector<NamedTensor> list_;
};

}  // namespace sluice
