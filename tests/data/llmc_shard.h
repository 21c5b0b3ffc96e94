// Shards as other programs write them.
#pragma once

#include <array>
#include <fstream>
#include <span>
#include <string>
#include <type_traits>

namespace sluice {

// llm.c's format: uint16 tokens (GPT-2) or uint32 (llama3).
template <class Token>
void write_llmc_shard(const std::string& path, std::span<const Token> tokens) {
  constexpr bool kNarrow = std::is_same_v<Token, uint16_t>;
  const std::array<int32_t, 256> header{kNarrow ? 20240520 : 20240801, kNarrow ? 1 : 7, int32_t(tokens.size())};
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(header.data()), sizeof header);
  file.write(reinterpret_cast<const char*>(tokens.data()), std::streamsize(tokens.size_bytes()));
}

}  // namespace sluice
