// A backend that stands before another one and passes everything on: what those that look at ops are made from.
#pragma once

#include "kernels/backend.h"

namespace sluice {

class ForwardingBackend : public Backend {
 public:
  explicit ForwardingBackend(Backend& inner) : inner_(inner) {}

  std::string describe() const override { return inner_.describe(); }
  BackendTraits traits() const override { return inner_.traits(); }
  void* allocate(size_t bytes) override { return inner_.allocate(bytes); }
  void release(void* data) override { inner_.release(data); }
  size_t allocated_bytes() const override { return inner_.allocated_bytes(); }
  void upload(const Tensor& to, const void* from) override { inner_.upload(to, from); }
  void download(void* to, const Tensor& from) override { inner_.download(to, from); }
  void synchronize() override { inner_.synchronize(); }
  void replay(const std::string& key, const std::function<void()>& ops) override { inner_.replay(key, ops); }
  void* stream() const override { return inner_.stream(); }
  void launch(int place, const void* fields) override { inner_.launch(place, fields); }
  int64_t workspace_of(int place, const void* sizes) const override { return inner_.workspace_of(place, sizes); }

 protected:
  Backend& inner_;
};

}  // namespace sluice
