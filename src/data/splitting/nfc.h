// Unicode's normalization forms C and D (UAX #15) as the library `tokenizers` has them.
#pragma once

#include <string>
#include <string_view>

namespace sluice {

// The valid UTF-8 text in NFC: `text` itself where it is in that form already, else what is put into `copy`.
std::string_view nfc(std::string_view text, std::string& copy);
// The same in NFD: canonically decomposed.
std::string_view nfd(std::string_view text, std::string& copy);

}  // namespace sluice
