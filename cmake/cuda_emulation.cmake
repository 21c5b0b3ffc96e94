# The CUDA backend compiled as C++ against the stand-in headers of tests/cuda_emulation, for the tests of builds without
# CUDA. The stand-ins come first in the search path; a device file's language is told to the compiler.
file(GLOB_RECURSE emulation_sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/cuda_emulation/*.cc"
     "${CMAKE_SOURCE_DIR}/src/kernels/cuda/*.cc" "${CMAKE_SOURCE_DIR}/src/ranks/communicator_nccl.cc")
list(FILTER emulation_sources EXCLUDE REGEX "_test[.]cc$")
file(GLOB_RECURSE emulated_device_sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/src/kernels/cuda/*.cu")
add_library(sluice_cuda_emulation OBJECT ${emulation_sources} ${emulated_device_sources})
set_source_files_properties(${emulated_device_sources} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-xc++")
target_include_directories(sluice_cuda_emulation BEFORE PRIVATE "${CMAKE_SOURCE_DIR}/tests/cuda_emulation"
                           "${CMAKE_SOURCE_DIR}/src")
target_link_libraries(sluice_cuda_emulation PRIVATE sluice_options sluice_libraries)
# The ranks over NCCL are those of the emulated one: they come before the library's, which has none.
target_compile_options(sluice_cuda_emulation PRIVATE -USLUICE_WITH_NCCL -DSLUICE_WITH_NCCL=1)
target_compile_options(sluice_cuda_emulation PRIVATE $<$<CONFIG:Release>:-O1> -Wno-unknown-pragmas
                       -fno-strict-aliasing)  # device files read eight bf16 as one uint4
set_source_files_properties("${CMAKE_SOURCE_DIR}/tests/cuda_emulation/emulator_test.cc" PROPERTIES
  INCLUDE_DIRECTORIES "${CMAKE_SOURCE_DIR}/tests/cuda_emulation" SKIP_PRECOMPILE_HEADERS ON)
