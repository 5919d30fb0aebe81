# SPDX-License-Identifier: Apache-2.0
#
# Passes when SOURCE does not compile and the compiler's output contains what the file expects:
#   // expect: some text of the message          (several lines: any of them, since compilers word things differently)
# If the file uses RUNNEL_MUST_FAIL, it must compile without that macro and fail with it, which proves that the guarded lines
# are the reason.
cmake_minimum_required(VERSION 3.22)

file(STRINGS "${SOURCE}" expectations REGEX "^[ ]*// expect: ")
if(NOT expectations)
  message(FATAL_ERROR "${SOURCE}: no line '// expect: <part of the compiler's message>'")
endif()
file(READ "${SOURCE}" text)

if(text MATCHES "RUNNEL_MUST_FAIL")
  execute_process(COMMAND "${COMPILER}" "@${FLAGS}" "${SOURCE}" RESULT_VARIABLE status ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${SOURCE}: should compile without RUNNEL_MUST_FAIL, but:\n${output}")
  endif()
endif()

set(ENV{LC_ALL} C)  # untranslated messages with plain quotes
execute_process(COMMAND "${COMPILER}" "@${FLAGS}" -DRUNNEL_MUST_FAIL "${SOURCE}" RESULT_VARIABLE status ERROR_VARIABLE output)
if(status EQUAL 0)
  message(FATAL_ERROR "${SOURCE}: compiles, but must not")
endif()
foreach(expectation IN LISTS expectations)
  string(REGEX REPLACE "^[ ]*// expect: " "" expectation "${expectation}")
  string(FIND "${output}" "${expectation}" found)
  if(NOT found EQUAL -1)
    return()
  endif()
endforeach()
message(FATAL_ERROR "${SOURCE}: does not compile, but for another reason than expected:\n${output}")
