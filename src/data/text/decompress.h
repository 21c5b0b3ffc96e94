// Text that is packed with zstd or gzip, as a stream.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

namespace sluice {

// What turns the file's bytes into text. One call takes some of [input, input + size) and gives some of the text.
class Decompressor {
 public:
  struct Step {
    size_t taken = 0, given = 0;
  };
  virtual ~Decompressor() = default;
  // Throws std::runtime_error with the reason for damaged bytes.
  virtual Step step(const char* input, size_t size, char* text, size_t room) = 0;
  virtual bool complete() const = 0;        // what came so far may be all there is
  virtual const char* command() const = 0;  // that unpacks as this does, for messages
};

// For a file that opens like this (8 bytes of it, or all of a smaller one); null where it is not packed with either.
std::unique_ptr<Decompressor> make_decompressor(std::string_view opening);

}  // namespace sluice
