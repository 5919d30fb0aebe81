// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Version and the library's only macros.

#define RUNNEL_VERSION_MAJOR 0
#define RUNNEL_VERSION_MINOR 1
#define RUNNEL_VERSION_PATCH 0

#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) || \
    (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "runnel: a row's bits may not depend on its neighbours, so -ffast-math (-Ofast, or a part of it) cannot be used"
#endif

/// Forces inlining of the small functions that kernels are made of.
#if defined(_MSC_VER) && !defined(__clang__)
#define RUNNEL_INLINE __forceinline
#else
#define RUNNEL_INLINE inline __attribute__((always_inline))
#endif

/// The same for a lambda that a kernel is made of, after its parameter list.
#if defined(__GNUC__) || defined(__clang__)
#define RUNNEL_LAMBDA_INLINE __attribute__((always_inline))
#else
#define RUNNEL_LAMBDA_INLINE
#endif

/// Before a loop of few turns, known at compile time, over registers: unrolled, its arrays of registers stay registers.
#if defined(__clang__)
#define RUNNEL_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define RUNNEL_UNROLL _Pragma("GCC unroll 16")
#else
#define RUNNEL_UNROLL
#endif

/// Checks an internal invariant; never sees bytes of a file or arguments of a user. Define it before including to
/// replace.
#ifndef RUNNEL_ASSERT
#include <cassert>
#define RUNNEL_ASSERT(condition) assert(condition)
#endif
