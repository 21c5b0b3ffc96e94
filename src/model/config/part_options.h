// What a user may say of a part of the model (a core, a stage, a residual): each has options of its own, which describe
// their keys.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "base/config/config.h"

namespace sluice {

struct ModelConfig;

class PartOptions {
 public:
  virtual ~PartOptions() = default;
  // Adds the part's keys to those of the group in which it is chosen.
  virtual void describe(Fields& group) = 0;
  // What several keys decide together; `path` is the group's: "model.attention" or an element of a pattern. UserError.
  virtual void resolve(const ModelConfig& /*model*/, const std::string& /*path*/) const {}
  // What in it would mean something else with another model.context; "" if nothing.
  virtual std::string tied_to_context() const { return ""; }
  // Whether it takes means over all rows of a micro-batch: an average, a loss of its own.
  virtual bool averages_rows() const { return false; }
  // Whether it is made of earlier rows alone: nothing for a model whose rows see both sides.
  virtual bool causal_only() const { return false; }
  // Why it does nothing in this model, a sentence; "" if it does something. `path` as above.
  virtual std::string idle(const ModelConfig& /*model*/, const std::string& /*path*/) const { return ""; }
  // What it is, for people: "score softmax". Only of a part that the model has.
  virtual std::string text() const = 0;
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
  Options* get() { return options_.get(); }
  const Options* get() const { return options_.get(); }

 private:
  std::unique_ptr<Options> options_;
};

}  // namespace sluice
