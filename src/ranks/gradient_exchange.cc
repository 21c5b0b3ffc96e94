#include "ranks/gradient_exchange.h"

namespace sluice {

GradientExchange::GradientExchange(Backend& backend, Params& params, Communicator& ranks, int64_t zero)
    : backend_(backend),
      params_(params),
      ranks_(ranks),
      zero_(zero),
      shares_(params.buckets(), ranks.rank(), ranks.size()),
      sections_(params.buckets().size()) {
  for (int section = 0; section < params.sections(); ++section) ++sections_[size_t(params.bucket_of(section))];
  if (zero_ == 2) kept_ = Arena(backend, size_t(shares_.kept) * size_of(params.all_values().dtype));
}

Tensor GradientExchange::kept(int bucket) const {
  const Partition::Piece& piece = shares_.pieces[size_t(bucket)];
  const DType dtype = params_.all_values().dtype;
  return kept_.at(size_t(piece.local) * size_of(dtype), dtype, {piece.count});
}

Tensor GradientExchange::own_piece(int bucket) const {
  const Partition::Piece& piece = shares_.pieces[size_t(bucket)];
  return slice(params_.bucket_grads(bucket), piece.flat - params_.buckets()[size_t(bucket)].begin, piece.count);
}

void GradientExchange::begin(bool first, bool last) {
  first_ = first;
  last_ = last;
  open_.assign(sections_.size(), 0);
  closed_.assign(sections_.size(), 0);
}

void GradientExchange::open(int section) {
  const int bucket = params_.bucket_of(section);
  if (open_[size_t(bucket)]++ == 0) open_bucket(bucket);
}

void GradientExchange::close(int section) {
  const int bucket = params_.bucket_of(section);
  if (++closed_[size_t(bucket)] == sections_[size_t(bucket)]) close_bucket(bucket);
}

void GradientExchange::open_bucket(int bucket) {
  // Nothing else writes the gaps between parameters: they hold what another buffer or the last reduce_scatter left
  // there.
  if (zero_ == 2 || (zero_ == 1 && first_)) backend_.run(Fill{params_.bucket_grads(bucket), 0});
  if (zero_ == 2 && !first_) backend_.run(Copy{own_piece(bucket), kept(bucket)});
}

void GradientExchange::close_bucket(int bucket) {
  ranks_.progress();
  if (zero_ == 2) {
    keep_exchanged();
    ranks_.start_reduce_scatter(params_.bucket_grads(bucket));
    exchanged_ = bucket;
  } else if (last_) {
    if (zero_ == 1) ranks_.start_reduce_scatter(params_.bucket_grads(bucket));
    else ranks_.start_all_reduce(params_.bucket_grads(bucket));
  }
}

void GradientExchange::finish() {
  if (zero_ == 2) keep_exchanged();
  else if (last_) ranks_.finish();
}

void GradientExchange::keep_exchanged() {
  if (exchanged_ < 0) return;
  ranks_.finish();
  backend_.run(Copy{kept(exchanged_), own_piece(exchanged_)});
  exchanged_ = -1;
}

double GradientExchange::squares() const {
  double total = 0;
  for (const Partition::Piece& piece : shares_.pieces)
    total += backend_.run(SumOfSquares{zero_ == 2 ? kept(piece.bucket) : own_piece(piece.bucket)});
  return total;
}

Tensor GradientExchange::summed(const Partition::Range& range) const {
  if (zero_ == 2) {
    const Partition::Piece& piece = shares_.pieces[size_t(range.bucket)];
    return slice(kept(range.bucket), range.local - piece.local, range.count);
  }
  return slice(params_.bucket_grads(range.bucket), range.flat - params_.buckets()[size_t(range.bucket)].begin,
               range.count);
}

}  // namespace sluice
