// What a user may say of the parts of attention: each part has an Options of its own, which describes its keys.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/config/config.h"
#include "model/attention/heads.h"

namespace sluice {

struct ModelConfig;

class PartOptions {
 public:
  virtual ~PartOptions() = default;
  // Adds the part's keys to those of model.attention.
  virtual void describe(Fields& attention) = 0;
  // What several keys decide together; `path` is "model.attention" or an element of a pattern. UserError.
  virtual void resolve(const ModelConfig& /*model*/, const std::string& /*path*/) const {}
  // What it is, for people: "score softmax". Only of a part that the model has.
  virtual std::string text() const = 0;
};

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
  // What in it would mean something else with another model.context; "" if nothing.
  virtual std::string tied_to_context() const { return ""; }
};

class StageOptions : public PartOptions {
 public:
  virtual std::unique_ptr<StageOptions> clone() const = 0;
  virtual bool present() const = 0;
  // The sizes that it must be given so that it hands on `handed_on`.
  virtual HeadSizes asks(const HeadSizes& handed_on) const { return handed_on; }
  // Keys of the part's group that may also stand beside it, in model.attention.
  virtual std::vector<std::string> shortcuts() const { return {}; }
};

// A part's options as a value: a copy of it is a copy of what it holds.
template <class Options>
class Held {
 public:
  Held() = default;
  explicit Held(std::unique_ptr<Options> options) : options_(std::move(options)) {}
  Held(const Held& other) : options_(other.options_ ? other.options_->clone() : nullptr) {}
  Held(Held&&) noexcept = default;
  Held& operator=(Held other) noexcept {
    options_ = std::move(other.options_);
    return *this;
  }
  ~Held() = default;

  explicit operator bool() const { return bool(options_); }
  Options* operator->() { return options_.get(); }
  const Options* operator->() const { return options_.get(); }
  const Options* get() const { return options_.get(); }

 private:
  std::unique_ptr<Options> options_;
};

}  // namespace sluice
