# SPDX-License-Identifier: Apache-2.0
#
# How our own executables are compiled: warnings, instruction set, sanitizers. None of it reaches users of the library.

find_program(RUNNEL_CCACHE ccache)
mark_as_advanced(RUNNEL_CCACHE)
if(PROJECT_IS_TOP_LEVEL AND RUNNEL_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${RUNNEL_CCACHE}")
endif()
set(CMAKE_CXX_EXTENSIONS OFF)

add_library(runnel_own INTERFACE)
target_link_libraries(runnel_own INTERFACE runnel::runnel)
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  target_compile_options(runnel_own INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # GCC 12 finds these in its own headers once they are inlined: the AVX-512 intrinsics that start from an undefined value
    # (bug 105593) and std::string (bug 105329). Clang still looks for the same mistakes.
    target_compile_options(runnel_own INTERFACE -Wno-uninitialized -Wno-maybe-uninitialized -Wno-restrict)
  endif()
  if(RUNNEL_WERROR)
    target_compile_options(runnel_own INTERFACE -Werror)
  endif()
  if(RUNNEL_MARCH)
    target_compile_options(runnel_own INTERFACE -march=${RUNNEL_MARCH})
  elseif(RUNNEL_NATIVE)
    target_compile_options(runnel_own INTERFACE -march=native)
  endif()
  if(RUNNEL_SANITIZE)
    target_compile_options(runnel_own INTERFACE -fsanitize=${RUNNEL_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(runnel_own INTERFACE -fsanitize=${RUNNEL_SANITIZE})
  endif()
  if(RUNNEL_SYNTAX_ONLY)
    target_compile_options(runnel_own INTERFACE -fsyntax-only)
  endif()
elseif(MSVC)
  target_compile_options(runnel_own INTERFACE /W4 /permissive- /utf-8)
  if(RUNNEL_WERROR)
    target_compile_options(runnel_own INTERFACE /WX)
  endif()
endif()

if(RUNNEL_TIDY)
  find_program(RUNNEL_CLANG_TIDY NAMES clang-tidy-14 clang-tidy REQUIRED)
  set(CMAKE_CXX_CLANG_TIDY "${RUNNEL_CLANG_TIDY}")
endif()

# Builds what a check of the sources alone needs: every header and every object, no executable.
add_custom_target(runnel_syntax)
# Builds what clang-tidy should see: all headers in one unit, the tool and the examples.
add_custom_target(runnel_tidy)

# Every public header, relative to include/, as a list in a variable of the caller.
function(runnel_list_headers variable)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/include/*.hpp")
  list(SORT headers)
  set(${variable} "${headers}" PARENT_SCOPE)
endfunction()

# Writes only what changed, so that generated sources are compiled again only when they have to be.
function(runnel_write path content)
  set(old "")
  if(EXISTS "${path}")
    file(READ "${path}" old)
  endif()
  if(NOT old STREQUAL content)
    file(WRITE "${path}" "${content}")
  endif()
endfunction()

# The tiny models that examples and the tests of the tool run on; their makers and ctest fixtures are in tests/.
set(RUNNEL_TINY_MODEL "${PROJECT_BINARY_DIR}/tiny.gguf")
set(RUNNEL_TINY_SPEECH "${PROJECT_BINARY_DIR}/tiny_speech")
