// Unicode's normalization form C (UAX #15) as the library `tokenizers` has it.
#pragma once

#include <string>
#include <string_view>

namespace sluice {

// The valid UTF-8 text in NFC: `text` itself where it is in that form already, else what is put into `copy`.
std::string_view nfc(std::string_view text, std::string& copy);

}  // namespace sluice
