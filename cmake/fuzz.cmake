# The fuzz targets (tests/fuzz, scripts/fuzz) and just what they read input with, built by Clang with libFuzzer and the
# address and undefined-behaviour sanitizers. Nothing else of the project is built with them: kernels need no fuzzing.
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "libFuzzer comes with Clang: use the preset (cmake --preset fuzz), which takes clang++.")
endif()
find_package(nlohmann_json CONFIG REQUIRED)
find_package(fmt CONFIG REQUIRED)
set(fuzz_flags -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g1
    -Wno-unknown-pragmas)
# A config is described by the parts of the model that it is for, and those name the ops that they run.
file(GLOB_RECURSE fuzz_sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/src/base/*.cc" "${CMAKE_SOURCE_DIR}/src/data/*.cc"
     "${CMAKE_SOURCE_DIR}/src/model/*.cc" "${CMAKE_SOURCE_DIR}/src/kernels/ops/*.cc"
     "${CMAKE_SOURCE_DIR}/src/kernels/types/*.cc" "${CMAKE_SOURCE_DIR}/src/kernels/formulas/*.cc")
file(GLOB stored CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/src/kernels/*.cc" "${CMAKE_SOURCE_DIR}/src/runs/run_*.cc"
     "${CMAKE_SOURCE_DIR}/src/runs/checkpoint*.cc" "${CMAKE_SOURCE_DIR}/src/runs/tensors/*.cc"
     "${CMAKE_SOURCE_DIR}/src/report/*_reader.cc" "${CMAKE_SOURCE_DIR}/src/report/compar*.cc")
list(FILTER stored EXCLUDE REGEX "/run_data.cc$")
set(readers experiment/experiment experiment/experiment_difference experiment/guard experiment/schedule runs/sweep
    runs/metrics_log runs/trainer_state interchange/config_reader interchange/foreign_config interchange/foreign_families interchange/foreign_bert interchange/foreign_fields
    interchange/weight_folder report/run_files report/summary report/findings report/report_data measure/hellaswag_file)
list(TRANSFORM readers REPLACE "(.+)" "${CMAKE_SOURCE_DIR}/src/\\1.cc")
list(APPEND fuzz_sources ${stored} ${readers})
add_library(sluice_fuzzed STATIC ${fuzz_sources})
target_include_directories(sluice_fuzzed PUBLIC "${CMAKE_SOURCE_DIR}/src" "${CMAKE_SOURCE_DIR}/tests/fuzz")
target_compile_options(sluice_fuzzed PUBLIC ${fuzz_flags} PRIVATE -fsanitize=fuzzer-no-link)
target_link_options(sluice_fuzzed PUBLIC ${fuzz_flags})
target_link_libraries(sluice_fuzzed PUBLIC nlohmann_json::nlohmann_json fmt::fmt xxhash zstd z sentencepiece_train
                      sentencepiece pcre2-8 utf8proc)
file(GLOB fuzz_targets CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz_*.cc")
foreach(source IN LISTS fuzz_targets)
  get_filename_component(name "${source}" NAME_WE)
  add_executable(${name} "${source}")
  target_link_libraries(${name} PRIVATE sluice_fuzzed)
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
endforeach()
