# SPDX-License-Identifier: Apache-2.0
#
# Runs PROGRAM with MODEL as its argument, and INPUT (a file, if it exists) to read, and compares what it prints with the file
# EXPECTED.
cmake_minimum_required(VERSION 3.22)

set(ENV{RUNNEL_EXAMPLE_MODEL} "${MODEL}")
set(input "")
if(EXISTS "${INPUT}")
  set(input INPUT_FILE "${INPUT}")
endif()
execute_process(COMMAND "${PROGRAM}" "${MODEL}" ${input} OUTPUT_FILE "${ACTUAL}" RESULT_VARIABLE status ERROR_VARIABLE errors)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ended with ${status}:\n${errors}")
endif()
execute_process(COMMAND "${CMAKE_COMMAND}" -E compare_files --ignore-eol "${ACTUAL}" "${EXPECTED}" RESULT_VARIABLE different)
if(different)
  file(READ "${ACTUAL}" actual)
  file(READ "${EXPECTED}" expected)
  message(FATAL_ERROR "${PROGRAM} printed\n${actual}\ninstead of (${EXPECTED})\n${expected}")
endif()
