// The walk over a source's sequences, as many at once as a model takes.
#pragma once

#include <algorithm>
#include <vector>

#include "base/batch.h"
#include "data/sources/source.h"

namespace sluice {

class BatchReader {
 public:
  explicit BatchReader(int64_t most) : most_(most) {}  // sequences of a batch

  // Sequences [first, first + count); what is returned is valid until the next call.
  Batch read(const DataSource& source, int64_t first, int64_t count) {
    const size_t tokens = size_t(count * source.context());
    tokens_.resize(tokens);
    targets_.resize(tokens);
    source.fill(first, count, tokens_.data(), targets_.data());
    const bool masked = source.masks_documents();
    if (masked) {
      starts_.resize(tokens);
      source.fill_document_starts(first, count, starts_.data());
    }
    return {tokens_.data(),      targets_.data(), count, source.context(), masked ? starts_.data() : nullptr,
            source.predictions()};
  }

  // body(batch) for sequences [first, first + sequences) in order; the last batch may be smaller.
  template <class Body>
  void for_each(const DataSource& source, int64_t first, int64_t sequences, Body body) {
    for (int64_t done = 0; done < sequences; done += most_)
      body(read(source, first + done, std::min(most_, sequences - done)));
  }

 private:
  int64_t most_;
  std::vector<int32_t> tokens_, targets_, starts_;
};

}  // namespace sluice
