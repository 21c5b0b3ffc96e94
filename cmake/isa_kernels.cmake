# CPU kernels compiled once per instruction set, chosen at run time by what the processor has.
#
# Every .cc under src/kernels/cpu/isa is compiled with SLUICE_ISA naming the set (use it as a namespace) and
# SLUICE_VECTOR_BYTES its register width. Such a file must keep everything it defines inside that namespace or in an
# anonymous one: an inline function of the standard library emitted with AVX-512 could be the copy the linker keeps,
# and would then crash a processor without it. tests/cli/isa_symbols.sh checks the objects for that.
set(SLUICE_ISA_SETS baseline)
set(SLUICE_ISA_BYTES_baseline 16)
set(SLUICE_ISA_FLAGS_baseline "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(SLUICE_ISA_SETS baseline avx2 avx512)
  set(SLUICE_ISA_FLAGS_baseline -march=x86-64-v2)
  set(SLUICE_ISA_BYTES_avx2 32)
  set(SLUICE_ISA_FLAGS_avx2 -march=x86-64-v3)
  set(SLUICE_ISA_BYTES_avx512 64)
  set(SLUICE_ISA_FLAGS_avx512 -march=x86-64-v4)
endif()

function(sluice_add_isa_kernels library)
  file(GLOB_RECURSE isa_sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/src/kernels/cpu/isa/*.cc")
  # Which sets exist, for the run-time choice: SLUICE_HAS_ISA_AVX2 and so on.
  foreach(isa IN LISTS SLUICE_ISA_SETS)
    string(TOUPPER ${isa} upper)
    target_compile_definitions(${library} PUBLIC SLUICE_HAS_ISA_${upper}=1)
  endforeach()
  if(NOT isa_sources)
    return()
  endif()
  foreach(isa IN LISTS SLUICE_ISA_SETS)
    set(objects sluice_isa_${isa})
    add_library(${objects} OBJECT ${isa_sources})
    target_include_directories(${objects} PRIVATE "${CMAKE_SOURCE_DIR}/src")
    target_link_libraries(${objects} PRIVATE sluice_options sluice_libraries)
    target_compile_definitions(${objects} PRIVATE SLUICE_ISA=${isa} SLUICE_VECTOR_BYTES=${SLUICE_ISA_BYTES_${isa}})
    # No -ffast-math: it would drop the checks for non-finite values. Errno and traps are never looked at.
    target_compile_options(${objects} PRIVATE ${SLUICE_ISA_FLAGS_${isa}} -fno-math-errno -fno-trapping-math -Wno-psabi)
    target_sources(${library} PRIVATE $<TARGET_OBJECTS:${objects}>)
  endforeach()
endfunction()
