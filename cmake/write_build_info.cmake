# Fills build_info.cc.in; run at build time by the target sluice_build_info.
set(COMMIT "")
if(GIT)
  execute_process(COMMAND "${GIT}" describe --always --dirty --exclude "*" WORKING_DIRECTORY "${SOURCE}"
                  OUTPUT_VARIABLE COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(SANITIZE)
  string(APPEND BUILD_TYPE " with address and undefined-behaviour sanitizers")
endif()
configure_file("${TEMPLATE}" "${OUTPUT}" @ONLY)
