# The libraries, all from Debian's packages but the CUDA ones. Everything of ours links `sluice_libraries`, which also
# carries SLUICE_WITH_MPI, SLUICE_WITH_CUDA, SLUICE_WITH_NCCL, SLUICE_WITH_CUDNN (0 or 1).
# What is required and missing is collected, so that one message names every package at once.
set(missing_packages "")

macro(sluice_require found package)
  if(NOT ${found})
    list(APPEND missing_packages ${package})
  endif()
endmacro()

# oneDNN by its files: Debian's package file for CMake asks for OpenCL, which only a GPU build of oneDNN needs.
find_path(DNNL_INCLUDE_DIR oneapi/dnnl/dnnl_version.h)
find_library(DNNL_LIBRARY dnnl)
sluice_require(DNNL_INCLUDE_DIR libdnnl-dev)
sluice_require(DNNL_LIBRARY libdnnl-dev)
find_package(nlohmann_json CONFIG QUIET)
sluice_require(nlohmann_json_FOUND nlohmann-json3-dev)
find_package(CLI11 CONFIG QUIET)
sluice_require(CLI11_FOUND libcli11-dev)
find_package(fmt CONFIG QUIET)
sluice_require(fmt_FOUND libfmt-dev)
find_package(spdlog CONFIG QUIET)
sluice_require(spdlog_FOUND libspdlog-dev)
find_path(XXHASH_INCLUDE_DIR xxhash.h)
find_library(XXHASH_LIBRARY xxhash)
sluice_require(XXHASH_INCLUDE_DIR libxxhash-dev)
sluice_require(XXHASH_LIBRARY libxxhash-dev)
find_path(ZSTD_INCLUDE_DIR zstd.h)
find_library(ZSTD_LIBRARY zstd)
sluice_require(ZSTD_INCLUDE_DIR libzstd-dev)
sluice_require(ZSTD_LIBRARY libzstd-dev)
find_package(ZLIB QUIET)
sluice_require(ZLIB_FOUND zlib1g-dev)
find_path(SENTENCEPIECE_INCLUDE_DIR sentencepiece_processor.h)
find_library(SENTENCEPIECE_LIBRARY sentencepiece)
find_library(SENTENCEPIECE_TRAIN_LIBRARY sentencepiece_train)
sluice_require(SENTENCEPIECE_INCLUDE_DIR libsentencepiece-dev)
sluice_require(SENTENCEPIECE_LIBRARY libsentencepiece-dev)
sluice_require(SENTENCEPIECE_TRAIN_LIBRARY libsentencepiece-dev)
find_path(PCRE2_INCLUDE_DIR pcre2.h)
find_library(PCRE2_LIBRARY pcre2-8)
sluice_require(PCRE2_INCLUDE_DIR libpcre2-dev)
sluice_require(PCRE2_LIBRARY libpcre2-dev)
find_path(UTF8PROC_INCLUDE_DIR utf8proc.h)
find_library(UTF8PROC_LIBRARY utf8proc)
sluice_require(UTF8PROC_INCLUDE_DIR libutf8proc-dev)
sluice_require(UTF8PROC_LIBRARY libutf8proc-dev)
find_file(SLUICE_CHARTJS NAMES chart.min.js Chart.min.js NO_DEFAULT_PATH
          PATHS /usr/share/javascript/chart.js /usr/share/nodejs/chart.js/dist)
sluice_require(SLUICE_CHARTJS libjs-chart.js)
find_package(OpenMP QUIET COMPONENTS CXX)
sluice_require(OpenMP_CXX_FOUND g++)
if(SLUICE_TESTS)
  find_package(GTest CONFIG QUIET)
  sluice_require(GTest_FOUND libgtest-dev)
endif()
find_package(Threads REQUIRED)

if(missing_packages)
  list(REMOVE_DUPLICATES missing_packages)
  list(JOIN missing_packages " " missing_packages)
  message(FATAL_ERROR "Sluice needs libraries that were not found here. On Debian or Ubuntu:\n"
                      "  sudo apt-get install ${missing_packages}\n"
                      "(scripts/setup does this.)")
endif()

set(SLUICE_DNNL_VERSION "")
file(STRINGS "${DNNL_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h" version_lines REGEX "define DNNL_VERSION_(MAJOR|MINOR|PATCH)")
foreach(line IN LISTS version_lines)
  string(REGEX MATCH "[0-9]+" number "${line}")
  list(APPEND SLUICE_DNNL_VERSION ${number})
endforeach()
list(JOIN SLUICE_DNNL_VERSION "." SLUICE_DNNL_VERSION)

add_library(sluice_libraries INTERFACE)
target_include_directories(sluice_libraries SYSTEM INTERFACE "${DNNL_INCLUDE_DIR}" "${XXHASH_INCLUDE_DIR}"
                           "${ZSTD_INCLUDE_DIR}" "${SENTENCEPIECE_INCLUDE_DIR}" "${PCRE2_INCLUDE_DIR}"
                           "${UTF8PROC_INCLUDE_DIR}")
target_link_libraries(sluice_libraries INTERFACE "${DNNL_LIBRARY}" nlohmann_json::nlohmann_json CLI11::CLI11 fmt::fmt
                      spdlog::spdlog "${XXHASH_LIBRARY}" "${ZSTD_LIBRARY}" ZLIB::ZLIB
                      "${SENTENCEPIECE_TRAIN_LIBRARY}" "${SENTENCEPIECE_LIBRARY}" "${PCRE2_LIBRARY}" "${UTF8PROC_LIBRARY}"
                      OpenMP::OpenMP_CXX Threads::Threads)

# ---- optional ----------------------------------------------------------------------------------------------------

set(MPI_CXX_SKIP_MPICXX ON)  # the C interface is all we use
find_package(MPI QUIET COMPONENTS CXX)
set(SLUICE_WITH_MPI 0)
if(MPI_CXX_FOUND)
  set(SLUICE_WITH_MPI 1)
  target_link_libraries(sluice_libraries INTERFACE MPI::MPI_CXX)
endif()

set(SLUICE_WITH_CUDA 0)
set(SLUICE_WITH_NCCL 0)
set(SLUICE_WITH_CUDNN 0)
if(SLUICE_CUDA)
  include(CheckLanguage)
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    message(FATAL_ERROR "SLUICE_CUDA is ON but no CUDA compiler was found: install the CUDA toolkit and put nvcc in "
                        "PATH, or build the CPU preset (cmake --preset release).")
  endif()
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES "80-real;90a-real")
  endif()
  enable_language(CUDA)
  # CMake 3.25 does not know yet that CUDA 13's compiler has C++20.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  find_package(CUDAToolkit REQUIRED)
  set(SLUICE_WITH_CUDA 1)
  target_link_libraries(sluice_libraries INTERFACE CUDA::cudart CUDA::cublasLt)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
    set(SLUICE_WITH_NCCL 1)
    target_include_directories(sluice_libraries SYSTEM INTERFACE "${NCCL_INCLUDE_DIR}")
    target_link_libraries(sluice_libraries INTERFACE "${NCCL_LIBRARY}")
  endif()
  # Headers only: the library is looked for when the program runs. They lie with the toolkit, where scripts/cudnn_headers
  # has put them, or in the site-packages of this python3; -D CUDNN_FRONTEND_INCLUDE_DIR=... tells another place.
  execute_process(COMMAND python3 -c "import site, sysconfig; print(';'.join([sysconfig.get_paths()['purelib'], \
site.getusersitepackages()]), end='')" OUTPUT_VARIABLE python_packages ERROR_QUIET)
  set(cudnn_places "${CMAKE_SOURCE_DIR}/build/cudnn_frontend/include")
  foreach(folder IN LISTS python_packages)
    list(APPEND cudnn_places "${folder}/include" "${folder}/nvidia/cudnn/include")
  endforeach()
  find_path(CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS} PATHS ${cudnn_places})
  find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h HINTS ${cudnn_places})
  if(CUDNN_INCLUDE_DIR AND CUDNN_FRONTEND_INCLUDE_DIR)
    set(SLUICE_WITH_CUDNN 1)
    target_include_directories(sluice_libraries SYSTEM INTERFACE "${CUDNN_INCLUDE_DIR}" "${CUDNN_FRONTEND_INCLUDE_DIR}")
    target_link_libraries(sluice_libraries INTERFACE ${CMAKE_DL_LIBS})
  elseif(NOT CUDNN_FRONTEND_INCLUDE_DIR)
    message(WARNING "cudnn_frontend.h was not found: train.attention_backend = \"cudnn\", and with it the comparison with "
                    "cuDNN in scripts/gpu_check, is LEFT OUT of this build. scripts/cudnn_headers fetches it; then "
                    "configure again.")
  else()
    message(WARNING "cudnn.h was not found: train.attention_backend = \"cudnn\", and with it the comparison with cuDNN in "
                    "scripts/gpu_check, is LEFT OUT of this build. cuDNN 9 brings it, also as pip's nvidia-cudnn-cu13.")
  endif()
endif()

foreach(feature MPI CUDA NCCL CUDNN)
  target_compile_definitions(sluice_libraries INTERFACE SLUICE_WITH_${feature}=${SLUICE_WITH_${feature}})
endforeach()
