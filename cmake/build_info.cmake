# build_info.cc: what src/base/build_info.h declares. Written at every build so that the commit is right, but only
# when it changed, so that nothing is compiled again for nothing.
find_package(Git QUIET)

function(sluice_add_build_info library)
  set(output "${CMAKE_BINARY_DIR}/generated/build_info.cc")
  string(TOUPPER "${CMAKE_BUILD_TYPE}" build_type)
  string(STRIP "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${build_type}}" flags)
  list(JOIN SLUICE_ISA_SETS " " isa_sets)
  add_custom_target(sluice_build_info
    COMMAND "${CMAKE_COMMAND}"
      "-DTEMPLATE=${CMAKE_SOURCE_DIR}/cmake/build_info.cc.in" "-DOUTPUT=${output}" "-DSOURCE=${CMAKE_SOURCE_DIR}"
      "-DGIT=${GIT_EXECUTABLE}" "-DVERSION=${PROJECT_VERSION}"
      "-DCOMPILER=${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}" "-DFLAGS=${flags}"
      "-DBUILD_TYPE=${CMAKE_BUILD_TYPE}" "-DSANITIZE=${SLUICE_SANITIZE}" "-DISA_SETS=${isa_sets}"
      -P "${CMAKE_SOURCE_DIR}/cmake/write_build_info.cmake"
    BYPRODUCTS "${output}" COMMENT "" VERBATIM)
  set_source_files_properties("${output}" PROPERTIES GENERATED ON)
  target_sources(${library} PRIVATE "${output}")
  add_dependencies(${library} sluice_build_info)
endfunction()
