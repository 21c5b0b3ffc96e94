// What is taken is what `zstd -t` and Python's gzip take: frames or members behind each other, empty
// ones among them, zstd's skippable frames anywhere, and zeros behind a gzip member (padding).
#include "data/text/decompress.h"

#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <new>
#include <stdexcept>

namespace sluice {
namespace {

// A window beyond 128 MB, as `zstd --ultra --long=31` makes them, is refused by the library.
class Zstd final : public Decompressor {
 public:
  Zstd() : stream_(ZSTD_createDStream()) {
    if (!stream_) throw std::bad_alloc();
  }
  ~Zstd() override { ZSTD_freeDStream(stream_); }
  Step step(const char* input, size_t size, char* text, size_t room) override {
    ZSTD_inBuffer in{input, size, 0};
    ZSTD_outBuffer out{text, room, 0};
    const size_t left = ZSTD_decompressStream(stream_, &out, &in);
    if (ZSTD_getErrorCode(left) == ZSTD_error_frameParameter_windowTooLarge) {
      throw std::runtime_error("its window is above 128 MB; `zstd -dc --long=31 FILE | sluice ... -` reads it");
    }
    if (ZSTD_isError(left)) throw std::runtime_error(ZSTD_getErrorName(left));
    complete_ = left == 0;
    return {in.pos, out.pos};
  }
  bool complete() const override { return complete_; }
  const char* command() const override { return "zstd -dc"; }

 private:
  ZSTD_DStream* stream_;
  bool complete_ = true;
};

class Gzip final : public Decompressor {
 public:
  Gzip() {
    if (inflateInit2(&stream_, 16 + MAX_WBITS) != Z_OK) throw std::bad_alloc();  // 16: gzip's header and no other
  }
  ~Gzip() override { inflateEnd(&stream_); }
  Step step(const char* input, size_t size, char* text, size_t room) override {
    if (complete_ && size > 0) {
      const size_t zeros = size_t(std::find_if(input, input + size, [](char byte) { return byte != 0; }) - input);
      if (zeros > 0) return {zeros, 0};
      if (input[0] != '\x1F') throw std::runtime_error("other bytes follow the end of the packed text");
      inflateReset(&stream_);  // another member follows
    }
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input));
    stream_.avail_in = uInt(size);
    stream_.next_out = reinterpret_cast<Bytef*>(text);
    stream_.avail_out = uInt(room);
    const int status = inflate(&stream_, Z_NO_FLUSH);
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) {
      throw std::runtime_error(stream_.msg ? stream_.msg : "bad data");
    }
    complete_ = status == Z_STREAM_END;
    return {size - stream_.avail_in, room - stream_.avail_out};
  }
  bool complete() const override { return complete_; }
  const char* command() const override { return "gzip -dc"; }

 private:
  z_stream stream_{};
  bool complete_ = true;
};

// 0xFD2FB528, the older 0xFD2FB522 to 27 (the library says which of them it knows), and skippable frames.
bool is_zstd(std::string_view opening) {
  if (opening.size() < 4) return false;
  const auto first = static_cast<unsigned char>(opening[0]);
  if (opening.substr(1, 3) == "\xB5\x2F\xFD") return first >= 0x22 && first <= 0x28;
  return (first & 0xF0) == 0x50 && opening.substr(1, 3) == "\x2A\x4D\x18";
}

}  // namespace

std::unique_ptr<Decompressor> make_decompressor(std::string_view opening) {
  if (is_zstd(opening)) return std::make_unique<Zstd>();
  if (opening.starts_with("\x1F\x8B")) return std::make_unique<Gzip>();
  return nullptr;
}

}  // namespace sluice
