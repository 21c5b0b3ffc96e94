# words_of TARGET: what libFuzzer puts into inputs, in its dictionary format. Words are the strings of the code that reads
# such files, so that they follow it. For scripts/fuzz.

json_words() {
  printf '"%s"\n' null true false '{}' '[]' '\"\"' , : '{\"a\":' '[1,2]' -1 0 1 0.5 1e308 -1e308 1e-320 1e999 2147483648 4294967296 \
      9007199254740993 9223372036854775807 9223372036854775808 18446744073709551615 NaN Infinity -Infinity '\"\\ud800\"' \
      '\xEF\xBB\xBF' '\xC3\xA9' '\x00' '\x0A'
}

# The strings in the files under src of these names, as JSON has them.
strings_of() {
  local names=()
  for name in "$@"; do names+=(-o -name "$name"); done
  find src docs/config.schema.json -false "${names[@]}" | xargs grep -ohE '"[][A-Za-z0-9_.|<>/ -]{1,40}"' |
      grep -v "\.h\"$" | sort -u | sed 's/^"\(.*\)"$/"\\"\1\\""/'
}

words_of() {
  case $1 in
    config) json_words && strings_of config.schema.json && printf '"%s"\n' '\"base\":\"base.json\"' 'model.attention=' 'train.steps=' ;;
    sweep)
      json_words && strings_of config.schema.json sweep.cc
      printf '"%s"\n' '\"base\":\"base.json\"' '\"status\":\"done\"' '\"steps_done\":' '\"seeds\":[1,2,3]' ;;
    state) json_words && strings_of config.schema.json 'checkpoint*.cc' trainer_state.cc guard.cc && printf '"\\"right\\""\n' ;;
    foreign_config) json_words && strings_of 'foreign_*.cc' ;;
    run_folder) json_words && strings_of '*_reader.cc' run_files.cc 'compar*.cc' summary.cc findings.cc report_data.cc ;;
    safetensors) json_words && strings_of safetensors.cc element_types.cc && printf '"%s"\n' '\"__metadata__\":{' '\"data_offsets\":[0,' '\"shape\":[' ;;
    weight_index) json_words && printf '"%s"\n' '\"weight_map\":{' '\"a\"' '\"b\"' '\"model-1.safetensors\"' '\"model-2.safetensors\"' '..' / ;;
    tokenizer_json | sentencepiece) json_words && strings_of '*tokenizer*.cc' {text_pipeline,sentencepiece_json,added_tokens,wordpiece_files}.cc ;;
    expression)
      printf '"%s"\n' '\\p{L}' '\\p{N}' '\\p{Lu}' '\\P{M}' '\\s' '\\S' '\\w' '\\d' '\\b' '\\R' '\\X' '\\h' '\\u0041' '\\x{1F389}' '(?i:' '(?:' '(?=' \
          '(?!' '(?<=' '(?<!' '(?>' '(?<n>' '(?i)' '(?m)' '(?s)' '|' '*' '+' '?' '++' '*+' '?+' '*?' '+?' '{1,3}' '{2,}' '{1,3}+' '^' '$' '.' '[^' \
          ']' '[a-z&&[^b]]' '[[:alpha:]]' '\\A' '\\z' '\\Z' '\\G' '\\1' '\\k<n>' '\\Q' '\\E' '(?#' '(*' '\\K' '\x00' '\xC3\xA9' ;;
    text)
      printf '"%s"\n' '\x1F\x8B\x08\x00' '\x28\xB5\x2F\xFD' '\x50\x2A\x4D\x18' '\x5C\x2A\x4D\x18' '\xEF\xBB\xBF' '\xFF\xFE' 'PAR1' 'BZh9' '\xFD7zXZ\x00' \
          'PK\x03\x04' 'SLUICETK' '\x93NUMPY' '%PDF-' '<!DOCTYPE html>' '{\"text\":\"' '\"}\x0A' '{\"a\":{\"b\":\"' '\x0A--\x0A' '\\ud800' '\\u0000' \
          '\x0D\x0A' '\xF4\x8F\xBF\xBF' '\xED\xA0\x80' '\xC0\x80' ;;
    hellaswag) json_words && printf '"%s"\n' '\"ctx\":\"' '\"endings\":[\"a\",\"b\"]' '\"label\":' '\x1F\x8B\x08\x00' '\x28\xB5\x2F\xFD' ;;
    shard) printf '"%s"\n' SLUICETK '\x88\xD8\x34\x01' '\xA1\xD9\x34\x01' '\x93NUMPY' '\x01\x00\x00\x00' '\x02\x00\x00\x00' '\xFF\xFF\xFF\xFF' '\x00\x01' ;;
    *) json_words ;;
  esac
}
