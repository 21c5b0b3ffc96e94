// One table of names, sizes and our own types (element_types.h).
#include "runs/tensors/element_types.h"

#include <algorithm>
#include <array>
#include <stdexcept>

namespace sluice {
namespace {

const std::array<ElementType, 13> kTypes = {{{"F32", 4, DType::kF32},
                                             {"BF16", 2, DType::kBF16},
                                             {"F64", 8, DType::kF64},
                                             {"I32", 4, DType::kI32},
                                             {"F16", 2},
                                             {"I64", 8},
                                             {"U64", 8},
                                             {"U32", 4},
                                             {"I16", 2},
                                             {"U16", 2},
                                             {"I8", 1},
                                             {"U8", 1},
                                             {"BOOL", 1}}};

}  // namespace

const char* stored_name(DType type) {
  for (const ElementType& element : kTypes) {
    if (element.dtype == type) return element.name;
  }
  throw std::logic_error("safetensors: a type without a name");
}

const ElementType* element_type(const std::string& name) {
  const auto found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const ElementType& type) { return name == type.name; });
  return found == kTypes.end() ? nullptr : &*found;
}

}  // namespace sluice
