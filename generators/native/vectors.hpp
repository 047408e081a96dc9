// Vectors of as many floats as the machine computes with at once, and the functions of them that networks need: within
// three units in the last place, and NaN stays NaN. Vectors are those of GCC and Clang.

#pragma once

#include <cmath>
#include <cstdint>
#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
// Sums held in registers at a time, of 32 or 16 registers.
#if defined(__AVX512F__) || defined(__aarch64__)
#define SUMS 25
#else
#define SUMS 12
#endif

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));

static inline Floats all(float x) { return x - Floats{}; }
static inline Ints all(int32_t x) { return x - Ints{}; }

static inline Floats root(Floats x) {
#if defined(__AVX512F__)
    return (Floats)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX__)
    return (Floats)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
    return (Floats)_mm_sqrt_ps((__m128)x);
#elif defined(__aarch64__)
    return (Floats)vsqrtq_f32((float32x4_t)x);
#else
    for (int l = 0; l < LANES; l++) x[l] = std::sqrt(x[l]);
    return x;
#endif
}

static inline Floats magnitude(Floats x) { return (Floats)((Ints)x & all(0x7fffffff)); }
static inline Floats with_sign_of(Floats x, Floats y) { return (Floats)((Ints)x | ((Ints)y & all(INT32_MIN))); }

static inline Floats exponential(Floats x) {
    // Comparisons this way round, so that NaN passes. The bounds lie where the result is infinite or zero already.
    x = (x > 89.0f) ? all(89.0f) : x;
    x = (x < -104.0f) ? all(-104.0f) : x;
    const Floats shift = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number, in the lowest bits
    Floats shifted = x * 1.44269504088896341f + shift, n = shifted - shift;
    Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Floats p = all(0.0013926391895325576f);
    p = p * r + 0.008363345810978539f;
    p = p * r + 0.04166655336265219f;
    p = p * r + 0.16666575985420856f;
    p = p * r + 0.5f;
    p = p * (r * r) + r + 1.0f;
    // Two halves of the exponent, since 2^n itself may lie outside the range of a float.
    Ints whole = (Ints)shifted - (Ints)shift, half = whole >> 1;
    return p * (Floats)((half + 127) << 23) * (Floats)((whole - half + 127) << 23);
}

static inline Floats tangent(Floats x) {
    Floats z = x * x, size = magnitude(x);
    Floats p = all(-0.0060967141633344836f);
    p = p * z + 0.02099717899673014f;
    p = p * z - 0.053850909577782546f;
    p = p * z + 0.13332769736967365f;
    p = p * z - 0.33333328944133916f;
    Floats near = p * z * x + x;
    Floats far = with_sign_of(1.0f - 2.0f / (exponential(2.0f * size) + 1.0f), x);
    return (size < 0.625f) ? near : far;
}

static inline Floats error_function(Floats x) {
    Floats z = x * x, size = magnitude(x);
    Floats p = all(7.875875111754535e-05f);
    p = p * z - 0.0008016864301591144f;
    p = p * z + 0.005189087425017241f;
    p = p * z - 0.026854212011422674f;
    p = p * z + 0.11283594715178236f;
    p = p * z - 0.3761262666672187f;
    Floats near = p * z * x + x * 0.128379167095512574f + x;
    Floats t = (size > 4.1f) ? all(4.1f) : size;
    Floats q = all(1.6069090230204912e-06f);
    q = q * t - 4.5485840061387825e-05f;
    q = q * t + 0.0005921924881701742f;
    q = q * t - 0.004738916681584639f;
    q = q * t + 0.026364786462047228f;
    q = q * t - 0.10998450660038392f;
    q = q * t - 0.6319246475241843f;
    q = q * t - 1.1301768256515379f;
    q = q * t + 0.0003062758594456483f;
    Floats far = with_sign_of(1.0f - exponential(q), x);
    return (size < 1.0f) ? near : far;
}

enum Activation { TANH, SIGMOID, RELU, GELU };

// Value, and slope at the same place.
template <int A>
static inline Floats activated(Floats x, Floats& slope) {
    if (A == TANH) {
        Floats y = tangent(x);
        slope = 1.0f - y * y;
        return y;
    }
    if (A == SIGMOID) {
        Floats y = 1.0f / (1.0f + exponential(-x));
        slope = y * (1.0f - y);
        return y;
    }
    if (A == RELU) {
        slope = (x <= 0.0f) ? Floats{} : all(1.0f);
        return (x <= 0.0f) ? Floats{} : x;
    }
    Floats cdf = 0.5f + 0.5f * error_function(x * 0.70710678118654752f);
    slope = cdf + x * 0.39894228040143268f * exponential(-0.5f * x * x);
    return x * cdf;
}
