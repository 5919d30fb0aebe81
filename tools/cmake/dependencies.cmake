# SPDX-License-Identifier: Apache-2.0
#
# Finds what the library and its tests need: a target the parent project already has, else an installed package, else the
# sources at a pinned commit. -DCMAKE_DISABLE_FIND_PACKAGE_<Package>=ON forces the last; the usual FETCHCONTENT_* variables
# (FETCHCONTENT_SOURCE_DIR_XSIMD=..., FETCHCONTENT_FULLY_DISCONNECTED) work.
#
# Fetched packages are only headers to us: their own build files are not run, so they can add no tests, warnings, install rules
# or cache entries to this project.

include(FetchContent)
include("${CMAKE_CURRENT_LIST_DIR}/runnel_xsimd.cmake")

# runnel_dependency(<package> <target> AT_LEAST <version> REPOSITORY <url> COMMIT <full hash> INCLUDE <folder>
#                   HEADERS <what to install of that folder>... LICENSE_FILES <file>...)
function(runnel_dependency package target)
  cmake_parse_arguments(PARSE_ARGV 2 dep "" "AT_LEAST;REPOSITORY;COMMIT;INCLUDE" "HEADERS;LICENSE_FILES")
  if(TARGET ${target})
    return()
  endif()
  find_package(${package} CONFIG QUIET)
  if(${package}_FOUND AND TARGET ${target})
    # Not passed to find_package: several of these packages refuse every other major version, newer ones included.
    if("${${package}_VERSION}" VERSION_LESS dep_AT_LEAST)
      message(FATAL_ERROR "runnel needs ${package} ${dep_AT_LEAST} or newer and found ${${package}_VERSION} in ${${package}_DIR}. "
        "Update it, or use a fetched copy with -DCMAKE_DISABLE_FIND_PACKAGE_${package}=ON.")
    endif()
    set_target_properties(${target} PROPERTIES IMPORTED_GLOBAL TRUE)  # a parent project links runnel from its own folder
    message(STATUS "${package} ${${package}_VERSION}: ${${package}_DIR}")
    return()
  endif()

  string(TOLOWER ${package} name)
  message(STATUS "${package}: not installed, fetching ${dep_REPOSITORY} at ${dep_COMMIT}")
  FetchContent_Declare(${name}
    GIT_REPOSITORY ${dep_REPOSITORY}
    GIT_TAG ${dep_COMMIT}
    SOURCE_SUBDIR headers-only)  # a folder that does not exist, so that no CMakeLists.txt is run
  FetchContent_MakeAvailable(${name})
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} INTERFACE "${${name}_SOURCE_DIR}/${dep_INCLUDE}")
  set_property(GLOBAL APPEND PROPERTY RUNNEL_FETCHED ${name})
  set_property(GLOBAL PROPERTY RUNNEL_FETCHED_${name}_PACKAGE ${package})
  set_property(GLOBAL PROPERTY RUNNEL_FETCHED_${name}_TARGET ${target})
  set_property(GLOBAL PROPERTY RUNNEL_FETCHED_${name}_SOURCE "${${name}_SOURCE_DIR}")
  set_property(GLOBAL PROPERTY RUNNEL_FETCHED_${name}_INCLUDE "${dep_INCLUDE}")
  set_property(GLOBAL PROPERTY RUNNEL_FETCHED_${name}_HEADERS "${dep_HEADERS}")
  set_property(GLOBAL PROPERTY RUNNEL_FETCHED_${name}_LICENSE "${dep_LICENSE_FILES}")
endfunction()

# Used by the library itself.
runnel_dependency(Eigen3 Eigen3::Eigen AT_LEAST 3.4.0
  REPOSITORY https://gitlab.com/libeigen/eigen.git
  COMMIT 3147391d946bb4b6c68edd901f2add6ac1f31f8c  # 3.4.0
  INCLUDE . HEADERS Eigen LICENSE_FILES COPYING.MPL2 COPYING.BSD COPYING.MINPACK COPYING.APACHE COPYING.README)
runnel_dependency(xsimd xsimd AT_LEAST 8.1.0
  REPOSITORY https://github.com/xtensor-stack/xsimd.git
  COMMIT 1577b02d549cca52aa5e943c16f2600950480289  # 8.1.0
  INCLUDE include HEADERS xsimd LICENSE_FILES LICENSE)
runnel_repair_xsimd()
runnel_dependency(nlohmann_json nlohmann_json::nlohmann_json AT_LEAST 3.11.2
  REPOSITORY https://github.com/nlohmann/json.git
  COMMIT 9cca280a4d0ccf0c08f47a99aa71d1b0e52f8d03  # 3.11.3
  INCLUDE include HEADERS nlohmann LICENSE_FILES LICENSE.MIT)
if(NOT TARGET OpenMP::OpenMP_CXX)
  find_package(OpenMP REQUIRED COMPONENTS CXX)  # part of the compiler: nothing that could be fetched
  set_target_properties(OpenMP::OpenMP_CXX PROPERTIES IMPORTED_GLOBAL TRUE)
endif()

# Used by what stands beside it.
if(RUNNEL_BUILD_TESTS)
  runnel_dependency(doctest doctest::doctest AT_LEAST 2.4.9
    REPOSITORY https://github.com/doctest/doctest.git
    COMMIT 1da23a3e8119ec5cce4f9388e91b065e20bf06f5  # 2.4.12
    INCLUDE .)
endif()
if(RUNNEL_BUILD_TOOLS)
  runnel_dependency(CLI11 CLI11::CLI11 AT_LEAST 2.1.2
    REPOSITORY https://github.com/CLIUtils/CLI11.git
    COMMIT 37bb6edc5317e99af72ef48405e65d9ca5218861  # 2.6.2
    INCLUDE include)
endif()
