// Sixteen lanes and numbers under the same names, for any compiler with vector extensions (GCC, Clang).
//
// Every operation rounds as IEEE 754 says, and none depends on the instruction set: no contraction, no approximations.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

constexpr int64_t kLanes = 16;
constexpr int64_t kLongest = 4096;  // elements of a tile that is passed over twice
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kLeast = std::numeric_limits<int32_t>::min(), kMost = std::numeric_limits<int32_t>::max();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

typedef float F __attribute__((vector_size(64)));
typedef int32_t I __attribute__((vector_size(64)));
typedef uint32_t U __attribute__((vector_size(64)));
typedef uint16_t U16 __attribute__((vector_size(32)));
typedef uint8_t U8 __attribute__((vector_size(16)));

#define INLINE static inline __attribute__((always_inline))

template <class To, class X>
INLINE To From(const X& x) {
  static_assert(sizeof(To) == sizeof(X), "bits of another size");
  To to;
  std::memcpy(&to, &x, sizeof(To));
  return to;
}

INLINE F Splat(float x) { return F{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
INLINE I Splat(int32_t x) { return I{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
INLINE U Splat(uint32_t x) { return U{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
INLINE U Lanes() { return U{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }
INLINE F Zero(F) { return Splat(0.0f); }
INLINE I Zero(I) { return Splat(int32_t(0)); }
INLINE U Zero(U) { return Splat(uint32_t(0)); }
INLINE float Zero(float) { return 0; }
INLINE int32_t Zero(int32_t) { return 0; }
INLINE uint32_t Zero(uint32_t) { return 0; }

// The same bits.
INLINE U AsUint(F x) { return (U)x; }
INLINE U AsUint(I x) { return (U)x; }
INLINE U AsUint(U x) { return x; }
INLINE I AsInt(U x) { return (I)x; }
INLINE I AsInt(I x) { return x; }
INLINE F AsFloat(U x) { return (F)x; }
INLINE uint32_t AsUint(float x) { return From<uint32_t>(x); }
INLINE uint32_t AsUint(int32_t x) { return uint32_t(x); }
INLINE uint32_t AsUint(uint32_t x) { return x; }
INLINE int32_t AsInt(uint32_t x) { return int32_t(x); }
INLINE int32_t AsInt(int32_t x) { return x; }
INLINE float AsFloat(uint32_t x) { return From<float>(x); }

// Truth is -1, falsehood 0.
#define COMPARISON(NAME, OP)                                                          \
  INLINE I NAME(F a, F b) { return (I)(a OP b); }                                     \
  INLINE I NAME(I a, I b) { return (I)(a OP b); }                                     \
  INLINE I NAME(U a, U b) { return (I)(a OP b); }                                     \
  template <class X>                                                                  \
  INLINE int32_t NAME(X a, X b) {                                                     \
    return -int32_t(a OP b);                                                          \
  }
COMPARISON(Equal, ==)
COMPARISON(NotEqual, !=)
COMPARISON(Less, <)
COMPARISON(LessEqual, <=)
COMPARISON(Greater, >)
COMPARISON(GreaterEqual, >=)
#undef COMPARISON

INLINE F Select(I mask, F a, F b) { return mask ? a : b; }
INLINE I Select(I mask, I a, I b) { return mask ? a : b; }
INLINE U Select(I mask, U a, U b) { return mask ? a : b; }
template <class X>
INLINE X Select(int32_t mask, X a, X b) {
  return mask ? a : b;
}

// A NaN among the two is the result.
INLINE F Max(F a, F b) {
  const F larger = a > b ? a : b;
  return a != a ? a : larger;
}
INLINE F Min(F a, F b) {
  const F smaller = a < b ? a : b;
  return a != a ? a : smaller;
}
INLINE float Max(float a, float b) { return a > b || a != a ? a : b; }
INLINE float Min(float a, float b) { return a < b || a != a ? a : b; }
// With a bound that is no NaN; or of many, where as in XLA's own reductions a NaN may be lost.
template <class X>
INLINE X AtLeast(X x, X bound) {
  return bound > x ? bound : x;
}
template <class X>
INLINE X AtMost(X x, X bound) {
  return bound < x ? bound : x;
}
INLINE I Max(I a, I b) { return a > b ? a : b; }
INLINE I Min(I a, I b) { return a < b ? a : b; }
INLINE U Max(U a, U b) { return a > b ? a : b; }
INLINE U Min(U a, U b) { return a < b ? a : b; }
INLINE int32_t Max(int32_t a, int32_t b) { return a > b ? a : b; }
INLINE int32_t Min(int32_t a, int32_t b) { return a < b ? a : b; }
INLINE uint32_t Max(uint32_t a, uint32_t b) { return a > b ? a : b; }
INLINE uint32_t Min(uint32_t a, uint32_t b) { return a < b ? a : b; }
INLINE I Or(I a, I b) { return a | b; }
INLINE I And(I a, I b) { return a & b; }

INLINE F Abs(F x) { return AsFloat(AsUint(x) & 0x7fffffffu); }
INLINE float Abs(float x) { return AsFloat(AsUint(x) & 0x7fffffffu); }
INLINE I Abs(I x) { return x < 0 ? -x : x; }
INLINE int32_t Abs(int32_t x) { return x < 0 ? -x : x; }
template <class X>
INLINE X Sign(X x) {
  const X one = Zero(x) + 1;
  return Select(Greater(x, Zero(x)), one, Select(Less(x, Zero(x)), -one, x));
}
INLINE I IsFinite(F x) { return (I)((AsUint(x) & 0x7fffffffu) < 0x7f800000u); }
INLINE int32_t IsFinite(float x) { return -int32_t((AsUint(x) & 0x7fffffffu) < 0x7f800000u); }

INLINE float Sqrt(float x) { return std::sqrt(x); }
INLINE F Sqrt(F x) {
#if defined(__AVX512F__)
  return (F)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX__)
  __m256 half[2];
  std::memcpy(half, &x, 64);
  half[0] = _mm256_sqrt_ps(half[0]), half[1] = _mm256_sqrt_ps(half[1]);
  std::memcpy(&x, half, 64);
  return x;
#else
  for (int lane = 0; lane < kLanes; ++lane) x[lane] = std::sqrt(x[lane]);
  return x;
#endif
}

INLINE F ToFloat(I x) { return __builtin_convertvector(x, F); }
INLINE F ToFloat(U x) { return __builtin_convertvector(x, F); }
INLINE float ToFloat(int32_t x) { return float(x); }
INLINE float ToFloat(uint32_t x) { return float(x); }

// Towards 0; the nearest integer there is, and 0 for NaN.
INLINE I ToInt(F x) {
  x = Select(Equal(x, x), x, Splat(0.0f));
  return __builtin_convertvector(AtMost(AtLeast(x, Splat(-2147483648.0f)), Splat(2147483520.0f)), I);
}
INLINE int32_t ToInt(float x) { return x != x ? 0 : int32_t(Min(Max(x, -2147483648.0f), 2147483520.0f)); }

INLINE float Floor(float x) { return std::floor(x); }
INLINE F Floor(F x) {
#if defined(__AVX512F__)
  return (F)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#else
  for (int lane = 0; lane < kLanes; ++lane) x[lane] = std::floor(x[lane]);
  return x;
#endif
}

template <class X>
INLINE X Shifted(X x, X by, X shifted) {
  return Select(Less(by, Zero(by) + 32), shifted, Zero(x));
}
INLINE U ShiftLeft(U x, U by) { return Shifted(x, by, x << (by & 31u)); }
INLINE U ShiftRight(U x, U by) { return Shifted(x, by, x >> (by & 31u)); }
INLINE uint32_t ShiftLeft(uint32_t x, uint32_t by) { return by < 32 ? x << by : 0; }
INLINE uint32_t ShiftRight(uint32_t x, uint32_t by) { return by < 32 ? x >> by : 0; }
INLINE I ShiftLeft(I x, I by) { return AsInt(ShiftLeft(AsUint(x), AsUint(by))); }
INLINE I ShiftRight(I x, I by) { return AsInt(ShiftRight(AsUint(x), AsUint(by))); }
INLINE int32_t ShiftLeft(int32_t x, int32_t by) { return AsInt(ShiftLeft(AsUint(x), AsUint(by))); }
INLINE int32_t ShiftRight(int32_t x, int32_t by) { return AsInt(ShiftRight(AsUint(x), AsUint(by))); }
INLINE I ShiftRightSigned(I x, I by) { return x >> Min(Max(by, Splat(int32_t(0))), Splat(int32_t(31))); }
INLINE int32_t ShiftRightSigned(int32_t x, int32_t by) { return x >> Min(Max(by, 0), 31); }

// A float rounded to the nearest bfloat16, ties to even.
INLINE F Bf16(F x) {
  const U bits = AsUint(x), rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
  return AsFloat(Select(NotEqual(x, x), (bits & 0xffff0000u) | 0x400000u, rounded));
}
INLINE float Bf16(float x) {
  const uint32_t bits = AsUint(x), rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
  return AsFloat(x != x ? (bits & 0xffff0000u) | 0x400000u : rounded);
}

// An element of a table of that many, a power of 2.
template <int kSize, class X, class Index>
INLINE auto Lookup(const X* table, Index index) {
  const U whole = AsUint(index), place = whole & uint32_t(kSize - 1);  // permutations look at no more bits themselves
  decltype(Splat(X())) found;
#if defined(__AVX512F__)
  if constexpr (kSize == 16 || kSize == 32) {
    __m512i low, high;
    std::memcpy(&low, table, 64);
    std::memcpy(&high, table + (kSize - 16), 64);
    const __m512i bits = kSize == 16 ? _mm512_permutexvar_epi32((__m512i)whole, low)
                                     : _mm512_permutex2var_epi32(low, (__m512i)whole, high);
    std::memcpy(&found, &bits, 64);
    return found;
  }
#elif defined(__AVX2__)
  if constexpr (kSize == 16 || kSize == 32) {
    for (int half = 0; half < 2; ++half) {
      __m256i wanted, bits = _mm256_setzero_si256();
      std::memcpy(&wanted, reinterpret_cast<const char*>(&place) + 32 * half, 32);
      for (int part = 0; part < kSize / 8; ++part) {
        __m256i eight;
        std::memcpy(&eight, table + 8 * part, 32);
        const __m256i here = _mm256_cmpeq_epi32(_mm256_srli_epi32(wanted, 3), _mm256_set1_epi32(part));
        bits = _mm256_blendv_epi8(bits, _mm256_permutevar8x32_epi32(eight, wanted), here);
      }
      std::memcpy(reinterpret_cast<char*>(&found) + 32 * half, &bits, 32);
    }
    return found;
  }
#endif
  for (int lane = 0; lane < kLanes; ++lane) found[lane] = table[place[lane]];
  return found;
}

// The first `m` lanes, and for the others what changes nothing.
template <class X>
INLINE X Within(int64_t m, X x, X other) {
  return m >= kLanes ? x : Select(Less(Lanes(), Splat(uint32_t(m))), x, other);
}

INLINE F Add(F a, F b) { return a + b; }
INLINE float AddOf(F x) {
  float found = x[0];
  for (int lane = 1; lane < kLanes; ++lane) found += x[lane];
  return found;
}
INLINE float MaxOf(F x) {
  float found = x[0];
  for (int lane = 1; lane < kLanes; ++lane) found = AtLeast(x[lane], found);
  return found;
}
INLINE float MinOf(F x) {
  float found = x[0];
  for (int lane = 1; lane < kLanes; ++lane) found = AtMost(x[lane], found);
  return found;
}
INLINE int32_t MaxOf(I x) {
  int32_t found = x[0];
  for (int lane = 1; lane < kLanes; ++lane) found = Max(found, x[lane]);
  return found;
}
INLINE int32_t MinOf(I x) {
  int32_t found = x[0];
  for (int lane = 1; lane < kLanes; ++lane) found = Min(found, x[lane]);
  return found;
}
INLINE int32_t OrOf(I x) {
  int32_t found = 0;
  for (int lane = 0; lane < kLanes; ++lane) found |= x[lane];
  return found;
}
INLINE int32_t AndOf(I x) {
  int32_t found = -1;
  for (int lane = 0; lane < kLanes; ++lane) found &= x[lane];
  return found;
}

// Between two loops, in memory of our own.
INLINE F Load(const float* p) { return *reinterpret_cast<const F*>(p); }
INLINE I Load(const int32_t* p) { return *reinterpret_cast<const I*>(p); }
INLINE U Load(const uint32_t* p) { return *reinterpret_cast<const U*>(p); }
INLINE void Store(float* p, F x) { std::memcpy(p, &x, 64); }
INLINE void Store(int32_t* p, I x) { std::memcpy(p, &x, 64); }
INLINE void Store(uint32_t* p, U x) { std::memcpy(p, &x, 64); }

// GCC 12 takes `__builtin_convertvector` apart into single lanes here.
INLINE U Widened(U8 x) {
#if defined(__AVX512F__)
  return (U)_mm512_cvtepu8_epi32((__m128i)x);
#elif defined(__AVX2__)
  const __m256i half[2] = {_mm256_cvtepu8_epi32((__m128i)x), _mm256_cvtepu8_epi32(_mm_srli_si128((__m128i)x, 8))};
  return From<U>(half);
#else
  return __builtin_convertvector(x, U);
#endif
}
INLINE U Widened(U16 x) {
#if defined(__AVX512F__)
  return (U)_mm512_cvtepu16_epi32((__m256i)x);
#elif defined(__AVX2__)
  const __m256i whole = (__m256i)x;
  const __m256i half[2] = {_mm256_cvtepu16_epi32(_mm256_castsi256_si128(whole)),
                           _mm256_cvtepu16_epi32(_mm256_extracti128_si256(whole, 1))};
  return From<U>(half);
#else
  return __builtin_convertvector(x, U);
#endif
}

// Where an element is kept, by how it is.
struct Nibble {};
template <class X>
INLINE const void* Address(const void* p, int64_t at) {
  return static_cast<const char*>(p) + (std::is_same<X, Nibble>::value ? at / 2 : at * int64_t(sizeof(X)));
}

// Up to `m` elements of an array from `at` on; the lanes beyond are 0.
template <class V, class X>
INLINE V Taken(const void* p, int64_t at, int64_t m) {
  const X* from = static_cast<const X*>(p) + at;
  V x = {};
  if (m >= kLanes) {
    std::memcpy(&x, from, sizeof(V));
  } else {
    std::memcpy(&x, from, size_t(m) * sizeof(X));
  }
  return x;
}
template <class X, class V>
INLINE void Put(void* p, int64_t at, int64_t m, V x) {
  std::memcpy(static_cast<X*>(p) + at, &x, m >= kLanes ? sizeof(V) : size_t(m) * sizeof(X));
}
INLINE F Load_float32(const void* p, int64_t at, int64_t m) { return Taken<F, float>(p, at, m); }
INLINE U Load_uint8(const void* p, int64_t at, int64_t m) { return Widened(Taken<U8, uint8_t>(p, at, m)); }
INLINE U Load_uint16(const void* p, int64_t at, int64_t m) { return Widened(Taken<U16, uint16_t>(p, at, m)); }
INLINE F Load_bfloat16(const void* p, int64_t at, int64_t m) { return AsFloat(Load_uint16(p, at, m) << 16); }
INLINE void Store_float32(void* p, int64_t at, int64_t m, F x) { Put<float>(p, at, m, x); }
INLINE void Store_uint8(void* p, int64_t at, int64_t m, U x) {
  Put<uint8_t>(p, at, m, __builtin_convertvector(x, U8));
}
INLINE void Store_uint16(void* p, int64_t at, int64_t m, U x) {
  Put<uint16_t>(p, at, m, __builtin_convertvector(x, U16));
}
INLINE void Store_bfloat16(void* p, int64_t at, int64_t m, F x) { Store_uint16(p, at, m, AsUint(x) >> 16); }

// Two indices of 4 bits a byte, the first in the high half; `at` is even.
INLINE U Load_u4(const void* p, int64_t at, int64_t m) {
  uint8_t bytes[8] = {};
  std::memcpy(bytes, static_cast<const uint8_t*>(p) + at / 2, m >= kLanes ? 8 : size_t((m + 1) / 2));
  U8 x;
#if defined(__x86_64__)
  const __m128i both = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)), low = _mm_set1_epi8(15);
  x = (U8)_mm_unpacklo_epi8(_mm_and_si128(_mm_srli_epi16(both, 4), low), _mm_and_si128(both, low));
#else
  for (int pair = 0; pair < 8; ++pair) x[2 * pair] = bytes[pair] >> 4, x[2 * pair + 1] = bytes[pair] & 15;
#endif
  return Widened(x);
}
INLINE void Store_u4(void* p, int64_t at, int64_t m, U x) {
  const U8 codes = __builtin_convertvector(Within(m, x, Splat(uint32_t(0))), U8);
  uint8_t bytes[8];
#if defined(__x86_64__)
  const __m128i even = _mm_and_si128((__m128i)codes, _mm_set1_epi16(15)), odd = _mm_srli_epi16((__m128i)codes, 8);
  const __m128i both = _mm_or_si128(_mm_slli_epi16(even, 4), odd);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(bytes), _mm_packus_epi16(both, both));
#else
  for (int pair = 0; pair < 8; ++pair) bytes[pair] = uint8_t(codes[2 * pair] << 4 | codes[2 * pair + 1]);
#endif
  std::memcpy(static_cast<uint8_t*>(p) + at / 2, bytes, m >= kLanes ? 8 : size_t((m + 1) / 2));
}
