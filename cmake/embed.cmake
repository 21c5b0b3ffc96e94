# Files as string constants of the program.
#
#   sluice_embed(target NAME file symbol [JOINED file ...])
#                                            adds to `target` a generated source that defines
#                                            sluice::assets::<symbol>, a std::string_view of the file's bytes; the files
#                                            JOINED take the place of its line "# {...}"
#   sluice_embed_assets(target)              the report page's files, Chart.js included, and the export's Python file
#
# The same file, run as a script (cmake -P), writes one such source; it runs again when the embedded file changes.
# The bytes go into a raw string literal: quick to compile, and the generated source stays readable.

if(CMAKE_SCRIPT_MODE_FILE)
  file(READ "${INPUT}" content)
  if(JOINED)
    string(REPLACE "|" ";" JOINED "${JOINED}")
    set(parts "")
    foreach(file IN LISTS JOINED)
      file(READ "${file}" part)
      string(APPEND parts "${part}\n\n")
    endforeach()
    string(REGEX MATCH "# {[^}\n]*}\n\n\n" place "${content}")
    if(NOT place)
      message(FATAL_ERROR "${INPUT} has no line where other files are to be joined")
    endif()
    string(REPLACE "${place}" "${parts}" content "${content}")
  endif()
  string(FIND "${content}" ")_sluice_\"" collision)
  if(NOT collision EQUAL -1)
    message(FATAL_ERROR "${INPUT} contains the raw string's end mark")
  endif()
  file(WRITE "${OUTPUT}.part" "// Generated from ${NAME} by cmake/embed.cmake.\n#include <string_view>\n\n"
    "namespace sluice::assets {\n\nextern const std::string_view ${SYMBOL};\n"
    "const std::string_view ${SYMBOL} = R\"_sluice_(")
  file(APPEND "${OUTPUT}.part" "${content}")
  file(APPEND "${OUTPUT}.part" ")_sluice_\";\n\n}  // namespace sluice::assets\n")
  file(RENAME "${OUTPUT}.part" "${OUTPUT}")
  return()
endif()

set(SLUICE_EMBED_SCRIPT "${CMAKE_CURRENT_LIST_FILE}")

function(sluice_embed target name file symbol)
  cmake_parse_arguments(PARSE_ARGV 4 embed "" "" "JOINED")
  string(REPLACE ";" "|" joined "${embed_JOINED}")
  set(output "${CMAKE_CURRENT_BINARY_DIR}/embedded/${symbol}.cc")
  add_custom_command(
    OUTPUT "${output}"
    COMMAND "${CMAKE_COMMAND}" "-DINPUT=${file}" "-DOUTPUT=${output}" "-DNAME=${name}" "-DSYMBOL=${symbol}"
            "-DJOINED=${joined}" -P "${SLUICE_EMBED_SCRIPT}"
    DEPENDS "${file}" ${embed_JOINED} "${SLUICE_EMBED_SCRIPT}"
    COMMENT "Embedding ${name}"
    VERBATIM)
  target_sources(${target} PRIVATE "${output}")
endfunction()

function(sluice_embed_assets target)
  sluice_embed(${target} chart.min.js "${SLUICE_CHARTJS}" chart_library_js)  # found by cmake/dependencies.cmake
  set(folder "${PROJECT_SOURCE_DIR}/src/report/page")
  foreach(name page.html style.css charts.js positions.js maps.js page.js)
    string(REPLACE "." "_" symbol "${name}")
    sluice_embed(${target} ${name} "${folder}/${name}" ${symbol})
  endforeach()
  # Of the score functions score.py comes first: it says what the others are.
  set(scores "${PROJECT_SOURCE_DIR}/src/kernels/formulas/scores")
  file(GLOB score_files CONFIGURE_DEPENDS "${scores}/*.py")
  list(REMOVE_ITEM score_files "${scores}/score.py")
  sluice_embed(${target} modeling_sluice.py "${PROJECT_SOURCE_DIR}/src/interchange/modeling_sluice.py"
               modeling_sluice_py JOINED "${scores}/score.py" ${score_files})
endfunction()
