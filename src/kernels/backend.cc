#include "kernels/backend.h"

#include "kernels/ops/check.h"

namespace sluice {

void Backend::check_upload(const Tensor& to) {
  const OpCheck op("upload");
  op.require_present("the tensor", to);
  op.require(to.contiguous(), "the tensor must be contiguous");
}

void Backend::check_workspace(const char* op, const Tensor& workspace, int64_t needed) {
  const size_t bytes = workspace ? workspace.bytes() : 0, needed_bytes = size_t(needed) * sizeof(float);
  if (bytes < needed_bytes)
    throw std::logic_error(fmt::format("{}: the workspace has {} bytes, {} are needed", op, bytes, needed_bytes));
}

}  // namespace sluice
