#include "train/state_transfer.h"

namespace sluice {
namespace {

// The parameters, or their state, of a flat tensor in host memory, by name. place(spec): where they lie, if they do.
template <class Place>
void add_tensors(std::vector<NamedTensor>& out, const Params& params, const std::string& prefix, const Tensor& flat,
                 Place place) {
  for (const ParamSpec& spec : params.specs())
    if (const std::optional<int64_t> at = place(spec))
      out.push_back({prefix + spec.name, slice(flat, *at, spec.shape.elements()).reshaped(spec.shape)});
}

}  // namespace

HostState StateTransfer::room() const {
  HostState state;
  if (!ranks_.is_root()) return state;
  const Tensor values = params().all_values();
  const auto copy = [&](const Tensor& like) {
    return Tensor(state.memory.emplace_back(like.bytes()).data(), like.dtype, like.shape);
  };
  const Optimizer& optimizer = learner_.optimizer();
  if (const Tensor all = averages().all_values()) {
    const Tensor host = on_host() ? all : copy(all);
    for (const MovingAverages::Average& average : averages().list())
      state.model.push_back(
          {average.name, slice(host, average.offset, average.shape.elements()).reshaped(average.shape)});
  }
  add_tensors(state.model, params(), "", on_host() ? values : copy(values),
              [](const ParamSpec& spec) { return std::optional(spec.offset); });
  for (size_t i = 0; i < optimizer.slots().size(); ++i) {
    const Tensor slot = optimizer.slot(i);
    add_tensors(state.optimizer, params(), optimizer.slots()[i] + ".",
                slots_in_place() ? slot : copy(learner_.is_sharded() ? values : slot),
                [&](const ParamSpec& spec) { return optimizer.place(i, spec); });
  }
  return state;
}

HostState StateTransfer::collect() const {
  HostState state = room();
  size_t next = 0;
  const auto memory = [&] { return ranks_.is_root() ? state.memory[next++].data() : nullptr; };
  for (const Tensor& flat : model_state()) {
    std::byte* to = on_host() ? nullptr : memory();
    if (to != nullptr) backend_.download(to, flat);
  }
  if (slots_in_place()) return state;
  for (size_t i = 0; i < learner_.optimizer().slots().size(); ++i) gather_slot(learner_.optimizer().slot(i), memory());
  ranks_.settle();  // what the root does with it, which may take long, is no exchange
  return state;
}

void StateTransfer::distribute(const HostState& state) const {
  size_t next = 0;
  const auto memory = [&] { return ranks_.is_root() ? state.memory[next++].data() : nullptr; };
  for (const Tensor& flat : model_state()) {
    const std::byte* from = on_host() ? nullptr : memory();
    if (from != nullptr) backend_.upload(flat, from);
  }
  broadcast(params().all_values());
  if (const Tensor all = averages().all_values()) {
    ranks_.start_broadcast(all);
    ranks_.finish();
  }
  learner_.model().params().refresh_compute_copy(backend_);
  for (size_t i = 0; i < learner_.optimizer().slots().size(); ++i)
    scatter_slot(learner_.optimizer().slot(i), slots_in_place() ? nullptr : memory());
  ranks_.settle();
}

// What model.safetensors has, in the order of room()'s memory.
std::vector<Tensor> StateTransfer::model_state() const {
  std::vector<Tensor> out;
  if (const Tensor all = averages().all_values()) out.push_back(all);
  out.push_back(params().all_values());
  return out;
}

Tensor StateTransfer::bucket_of(const Tensor& flat, size_t bucket) const {
  const ParamBucket& range = params().buckets()[bucket];
  return slice(flat, range.begin, range.size());
}

Tensor StateTransfer::piece_of(const Tensor& flat, size_t bucket) const {
  const Partition::Piece& piece = learner_.partition().pieces[bucket];
  return slice(flat, piece.local, piece.count);
}

void StateTransfer::broadcast(const Tensor& flat) const {
  for (size_t i = 0; i < params().buckets().size(); ++i) ranks_.start_broadcast(bucket_of(flat, i));
  ranks_.finish();
}

// Through the memory of the gradients, which nobody needs between two steps.
void StateTransfer::gather_slot(const Tensor& slot, std::byte* to) const {
  if (!learner_.is_sharded()) {
    if (to != nullptr) backend_.download(to, slot);
    return;
  }
  for (size_t i = 0; i < params().buckets().size(); ++i) {
    const Tensor whole = params().bucket_grads(int(i));
    const int64_t first = learner_.partition().pieces[i].flat - params().buckets()[i].begin;
    const Tensor piece = piece_of(slot, i);
    backend_.run(Copy{slice(whole, first, piece.elements()), piece});
    ranks_.start_all_gather(whole);
    ranks_.finish();
    if (to != nullptr) backend_.download(to + size_t(params().buckets()[i].begin) * size_of(whole.dtype), whole);
  }
}

void StateTransfer::scatter_slot(const Tensor& slot, const std::byte* from) const {
  if (!learner_.is_sharded()) {
    if (from != nullptr) backend_.upload(slot, from);
    ranks_.start_broadcast(slot);
    ranks_.finish();
    return;
  }
  for (size_t i = 0; i < params().buckets().size(); ++i) {
    const Tensor whole = params().bucket_grads(int(i));
    const int64_t first = learner_.partition().pieces[i].flat - params().buckets()[i].begin;
    if (from != nullptr) backend_.upload(whole, from + size_t(params().buckets()[i].begin) * size_of(whole.dtype));
    ranks_.start_broadcast(whole);
    ranks_.finish();
    const Tensor piece = piece_of(slot, i);
    backend_.run(Copy{piece, slice(whole, first, piece.elements())});
  }
}

}  // namespace sluice
