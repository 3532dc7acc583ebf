// AVX-512's instructions as AVX2 can carry them out, put before a kernel source (-include) by
// DMPC_AVX512_EMULATED: the layouts, tiles and tails of the AVX-512 kernels then run on processors
// that lack it. For tests alone: it is slow, and it is not what the compiler makes for the real
// processor. Meanings: Intel's Software Developer's Manual, volume 2. `vpdpbusd` is assembly in the
// kernels, whose form without VNNI takes the same packing.
#pragma once

#include <immintrin.h>

#include <cstdint>

#define __AVX512F__ 1
#if defined(DMPC_EMULATED_BF16)
#define __AVX512BF16__ 1
#endif

namespace dmpc::cpu::emulated {
namespace {

template <class T, int Count>
struct Lanes {
    T lane[Count];
};
template <class T, class V>
inline auto lanes_of(V vector) {
    Lanes<T, sizeof(V) / sizeof(T)> lanes;
    static_assert(sizeof lanes == sizeof vector);
    __builtin_memcpy(&lanes, &vector, sizeof lanes);
    return lanes;
}
template <class V, class T, int Count>
inline V vector_of(const Lanes<T, Count>& lanes) {
    static_assert(sizeof(V) == sizeof lanes);
    V vector;
    __builtin_memcpy(&vector, &lanes, sizeof vector);
    return vector;
}

/// V whose lane i, a T, is function(i).
template <class V, class T, class Function>
inline V each(Function function) {
    Lanes<T, sizeof(V) / sizeof(T)> result;
    int i = 0;
    for (T& lane : result.lane) lane = static_cast<T>(function(i++));
    return vector_of<V>(result);
}

inline __m512 load_ps(const void* from) {
    __m512 result;
    __builtin_memcpy(&result, from, sizeof result);
    return result;
}
inline __m512 set1_ps(float value) {
    return each<__m512, float>([&](int) { return value; });
}
inline __m512i set1_epi32(int value) {
    return each<__m512i, std::int32_t>([&](int) { return value; });
}

// The second operand where either is not a number.
inline __m512 max_ps(__m512 a, __m512 b) {
    const auto x = lanes_of<float>(a), y = lanes_of<float>(b);
    return each<__m512, float>(
        [&](int i) { return x.lane[i] > y.lane[i] ? x.lane[i] : y.lane[i]; });
}
inline __m512 min_ps(__m512 a, __m512 b) {
    const auto x = lanes_of<float>(a), y = lanes_of<float>(b);
    return each<__m512, float>(
        [&](int i) { return x.lane[i] < y.lane[i] ? x.lane[i] : y.lane[i]; });
}
inline __m512i max_epu16(__m512i a, __m512i b) {
    const auto x = lanes_of<std::uint16_t>(a), y = lanes_of<std::uint16_t>(b);
    return each<__m512i, std::uint16_t>(
        [&](int i) { return x.lane[i] > y.lane[i] ? x.lane[i] : y.lane[i]; });
}
inline __m512 sqrt_ps(__m512 a) {
    const auto x = lanes_of<float>(a);
    return each<__m512, float>([&](int i) { return __builtin_sqrtf(x.lane[i]); });
}
/// 1 / x with the 14 bits that the instruction promises, and no more.
inline __m512 rcp14_ps(__m512 a) {
    const auto x = lanes_of<float>(a);
    return each<__m512, float>([&](int i) { return 1.0f / x.lane[i] * (1.0f + 0x1p-14f); });
}
/// What rounding down takes off.
template <int Mode>
inline __m512 reduce_ps(__m512 a) {
    static_assert(Mode == _MM_FROUND_TO_NEG_INF);
    const auto x = lanes_of<float>(a);
    return each<__m512, float>([&](int i) { return x.lane[i] - __builtin_floorf(x.lane[i]); });
}
/// a 2^floor(b), 0 where that is below the normal numbers, as flushing denormals has it.
inline __m512 scalef_ps(__m512 a, __m512 b) {
    const auto x = lanes_of<float>(a), y = lanes_of<float>(b);
    return each<__m512, float>([&](int i) {
        const float power = __builtin_floorf(y.lane[i]);
        if (power != power) return power;
        if (power < -300.0f) return 0.0f;
        const float value =
            __builtin_ldexpf(x.lane[i], power > 300.0f ? 300 : static_cast<int>(power));
        return __builtin_fabsf(value) < 0x1p-126f ? 0.0f : value;
    });
}
/// The smaller magnitude of both, with the sign of a; the other one where one is not a number.
template <int Mode>
inline __m512 range_ps(__m512 a, __m512 b) {
    static_assert(Mode == 2);
    const auto x = lanes_of<float>(a), y = lanes_of<float>(b);
    return each<__m512, float>([&](int i) {
        const float p = __builtin_fabsf(x.lane[i]), q = __builtin_fabsf(y.lane[i]);
        return __builtin_copysignf(p != p || q < p ? q : p, x.lane[i]);
    });
}

inline __m512i mul_epu32(__m512i a, __m512i b) {
    const auto x = lanes_of<std::uint64_t>(a), y = lanes_of<std::uint64_t>(b);
    constexpr std::uint64_t low = 0xFFFFFFFFu;
    return each<__m512i, std::uint64_t>(
        [&](int i) { return (x.lane[i] & low) * (y.lane[i] & low); });
}
inline __m512i srli_epi64(__m512i a, unsigned count) {
    const auto x = lanes_of<std::uint64_t>(a);
    return each<__m512i, std::uint64_t>([&](int i) { return x.lane[i] >> count; });
}
inline unsigned test_epi32_mask(__m512i a, __m512i b) {
    const auto x = lanes_of<std::uint32_t>(a), y = lanes_of<std::uint32_t>(b);
    unsigned mask = 0;
    for (int i = 0; i < 16; ++i) mask |= (x.lane[i] & y.lane[i] ? 1u : 0u) << i;
    return mask;
}

inline __m512i mask_blend_epi32(unsigned mask, __m512i a, __m512i b) {
    const auto x = lanes_of<std::uint32_t>(a), y = lanes_of<std::uint32_t>(b);
    return each<__m512i, std::uint32_t>(
        [&](int i) { return mask >> i & 1u ? y.lane[i] : x.lane[i]; });
}
inline __m512i mask_blend_epi16(unsigned mask, __m512i a, __m512i b) {
    const auto x = lanes_of<std::uint16_t>(a), y = lanes_of<std::uint16_t>(b);
    return each<__m512i, std::uint16_t>(
        [&](int i) { return mask >> i & 1u ? y.lane[i] : x.lane[i]; });
}
inline __m512 permutex2var_ps(__m512 a, __m512i order, __m512 b) {
    const auto x = lanes_of<float>(a), y = lanes_of<float>(b);
    const auto from = lanes_of<std::uint32_t>(order);
    return each<__m512, float>([&](int i) {
        const std::uint32_t at = from.lane[i];
        return (at & 16u ? y : x).lane[at & 15u];
    });
}
inline __m512i permutex2var_epi16(__m512i a, __m512i order, __m512i b) {
    const auto x = lanes_of<std::uint16_t>(a), y = lanes_of<std::uint16_t>(b);
    const auto from = lanes_of<std::uint16_t>(order);
    return each<__m512i, std::uint16_t>([&](int i) {
        const unsigned at = from.lane[i];
        return (at & 32u ? y : x).lane[at & 31u];
    });
}
inline __m512i permutexvar_epi16(__m512i order, __m512i a) {
    const auto x = lanes_of<std::uint16_t>(a), from = lanes_of<std::uint16_t>(order);
    return each<__m512i, std::uint16_t>([&](int i) { return x.lane[from.lane[i] & 31u]; });
}
inline __m512i castsi256_si512(__m256i a) {
    const auto x = lanes_of<std::uint64_t>(a);
    return each<__m512i, std::uint64_t>([&](int i) { return i < 4 ? x.lane[i] : 0; });
}
template <int Half>
inline __m512i inserti64x4(__m512i a, __m256i b) {
    const auto x = lanes_of<std::uint64_t>(a);
    const auto y = lanes_of<std::uint64_t>(b);
    return each<__m512i, std::uint64_t>(
        [&](int i) { return i / 4 == Half ? y.lane[i % 4] : x.lane[i]; });
}

inline __m512i cvtepu16_epi32(__m256i a) {
    const auto x = lanes_of<std::uint16_t>(a);
    return each<__m512i, std::uint32_t>([&](int i) { return x.lane[i]; });
}
inline __m256i cvtepi16_epi8(__m512i a) {
    const auto x = lanes_of<std::uint16_t>(a);
    return each<__m256i, std::uint8_t>([&](int i) { return x.lane[i]; });
}
inline __m128i cvtepi32_epi8(__m512i a) {
    const auto x = lanes_of<std::uint32_t>(a);
    return each<__m128i, std::uint8_t>([&](int i) { return x.lane[i]; });
}

/// To the nearest bfloat16, ties to even, denormals to zero; what is not a number stays so.
inline std::uint16_t bfloat16(float value) {
    std::uint32_t word;
    __builtin_memcpy(&word, &value, sizeof word);
    if (value != value) return static_cast<std::uint16_t>(word >> 16 | 0x40u);
    if ((word & 0x7F800000u) == 0) word &= 0x80000000u;
    return static_cast<std::uint16_t>((word + 0x7FFFu + (word >> 16 & 1u)) >> 16);
}
inline float from_bfloat16(std::uint16_t half) {
    std::uint32_t word = std::uint32_t{half} << 16;
    if ((word & 0x7F800000u) == 0) word &= 0x80000000u;
    float value;
    __builtin_memcpy(&value, &word, sizeof value);
    return value;
}
inline __m256bh cvtneps_pbh(__m512 a) {
    const auto x = lanes_of<float>(a);
    return each<__m256bh, std::uint16_t>([&](int i) { return bfloat16(x.lane[i]); });
}
/// b in the lower half.
inline __m512bh cvtne2ps_pbh(__m512 a, __m512 b) {
    const auto x = lanes_of<float>(a), y = lanes_of<float>(b);
    return each<__m512bh, std::uint16_t>(
        [&](int i) { return bfloat16(i < 16 ? y.lane[i] : x.lane[i - 16]); });
}
inline __m512 dpbf16_ps(__m512 sums, __m512bh a, __m512bh b) {
    const auto s = lanes_of<float>(sums);
    const auto x = lanes_of<std::uint16_t>(a), y = lanes_of<std::uint16_t>(b);
    const auto product = [&](int i) { return from_bfloat16(x.lane[i]) * from_bfloat16(y.lane[i]); };
    return each<__m512, float>(
        [&](int i) { return s.lane[i] + product(2 * i + 1) + product(2 * i); });
}

}  // namespace
}  // namespace dmpc::cpu::emulated

#undef _mm512_inserti64x4
#undef _mm512_range_ps
#undef _mm512_reduce_ps
#undef _mm512_srli_epi64
#define _mm512_castsi256_si512 dmpc::cpu::emulated::castsi256_si512
#define _mm512_cvtepi16_epi8 dmpc::cpu::emulated::cvtepi16_epi8
#define _mm512_cvtepi32_epi8 dmpc::cpu::emulated::cvtepi32_epi8
#define _mm512_cvtepu16_epi32 dmpc::cpu::emulated::cvtepu16_epi32
#define _mm512_cvtne2ps_pbh dmpc::cpu::emulated::cvtne2ps_pbh
#define _mm512_cvtneps_pbh dmpc::cpu::emulated::cvtneps_pbh
#define _mm512_dpbf16_ps dmpc::cpu::emulated::dpbf16_ps
#define _mm512_inserti64x4(a, b, half) dmpc::cpu::emulated::inserti64x4<half>(a, b)
#define _mm512_load_ps dmpc::cpu::emulated::load_ps
#define _mm512_mask_blend_epi16 dmpc::cpu::emulated::mask_blend_epi16
#define _mm512_mask_blend_epi32 dmpc::cpu::emulated::mask_blend_epi32
#define _mm512_max_epu16 dmpc::cpu::emulated::max_epu16
#define _mm512_max_ps dmpc::cpu::emulated::max_ps
#define _mm512_min_ps dmpc::cpu::emulated::min_ps
#define _mm512_mul_epu32 dmpc::cpu::emulated::mul_epu32
#define _mm512_permutex2var_epi16 dmpc::cpu::emulated::permutex2var_epi16
#define _mm512_permutex2var_ps dmpc::cpu::emulated::permutex2var_ps
#define _mm512_permutexvar_epi16 dmpc::cpu::emulated::permutexvar_epi16
#define _mm512_range_ps(a, b, mode) dmpc::cpu::emulated::range_ps<mode>(a, b)
#define _mm512_rcp14_ps dmpc::cpu::emulated::rcp14_ps
#define _mm512_reduce_ps(a, mode) dmpc::cpu::emulated::reduce_ps<mode>(a)
#define _mm512_scalef_ps dmpc::cpu::emulated::scalef_ps
#define _mm512_set1_epi32 dmpc::cpu::emulated::set1_epi32
#define _mm512_set1_ps dmpc::cpu::emulated::set1_ps
#define _mm512_sqrt_ps dmpc::cpu::emulated::sqrt_ps
#define _mm512_srli_epi64 dmpc::cpu::emulated::srli_epi64
#define _mm512_test_epi32_mask dmpc::cpu::emulated::test_epi32_mask
