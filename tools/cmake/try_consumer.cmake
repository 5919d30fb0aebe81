# SPDX-License-Identifier: Apache-2.0
#
# Builds and runs one of tests/consumers/: configures it as a stranger would, from an installed prefix or from the sources.
cmake_minimum_required(VERSION 3.22)

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${command}\nfailed with ${status}:\n${output}")
  endif()
endfunction()

set(build "${SCRATCH}/${CONSUMER}")
set(prefix "${SCRATCH}/prefix")
file(REMOVE_RECURSE "${build}")
set(arguments -S "${SOURCE}/${CONSUMER}" -B "${build}" -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${COMPILER}" -DCMAKE_BUILD_TYPE=Debug)

if(CONSUMER STREQUAL "find_package")
  file(REMOVE_RECURSE "${prefix}" "${prefix}-moved")
  run("${CMAKE_COMMAND}" --install "${RUNNEL_BINARY}" --prefix "${prefix}" --component development)
  file(RENAME "${prefix}" "${prefix}-moved")  # an installed package may be moved
  run("${CMAKE_COMMAND}" ${arguments} "-DCMAKE_PREFIX_PATH=${prefix}-moved")
else()
  run("${CMAKE_COMMAND}" ${arguments} "-DRUNNEL_SOURCE=${RUNNEL_SOURCE}" ${HINTS})
endif()
run("${CMAKE_COMMAND}" --build "${build}")
run("${build}/consumer")

# The same program without CMake, where pkg-config is there to ask.
find_program(PKG_CONFIG pkg-config)
if(CONSUMER STREQUAL "find_package" AND PKG_CONFIG)
  file(GLOB_RECURSE pc "${prefix}-moved/*/runnel.pc")
  get_filename_component(pc_dir "${pc}" DIRECTORY)
  set(ENV{PKG_CONFIG_PATH} "${pc_dir}:$ENV{PKG_CONFIG_PATH}")
  execute_process(COMMAND "${PKG_CONFIG}" --cflags --libs runnel RESULT_VARIABLE status OUTPUT_VARIABLE flags ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "pkg-config does not accept ${pc}:\n${output}")
  endif()
  separate_arguments(flags UNIX_COMMAND "${flags}")
  run("${COMPILER}" -std=c++20 "${SOURCE}/main.cpp" "${SOURCE}/second_unit.cpp" ${flags} -o "${build}/pkg_config_consumer")
  run("${build}/pkg_config_consumer")
endif()
