// Vectors of the compiler's own kind: one source for every instruction set. No standard header
// whose inline functions could be compiled for one instruction set and linked into another.
#include <cstddef>
#include <cstdint>
#include <utility>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace dmpc::cpu::DMPC_TARGET {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr int kRowTile = 12;  // 24 sums, 2 weights and a few broadcasts fill 32 registers
#elif defined(__AVX2__)
constexpr int kLanes = 8;
constexpr int kRowTile = 6;
#else
constexpr int kLanes = 4;
constexpr int kRowTile = 6;
#endif
constexpr int kTileVectors = 2;
constexpr int kTileColumns = kTileVectors * kLanes;

typedef float F32 __attribute__((vector_size(kLanes * 4)));
typedef std::int32_t I32 __attribute__((vector_size(kLanes * 4)));
typedef std::uint32_t U32 __attribute__((vector_size(kLanes * 4)));
typedef std::uint16_t U16 __attribute__((vector_size(kLanes * 2)));

template <class V, class T>
inline V load_as(const T* from) {
    V value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}
inline F32 load(const float* from) { return load_as<F32>(from); }

template <class V, class T>
inline void store(T* to, V value) {
    __builtin_memcpy(to, &value, sizeof value);
}

template <class To, class From>
inline To bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}

inline F32 splat(float value) { return value - F32{}; }
inline U32 splat(std::uint32_t value) { return value - U32{}; }
// gcc makes a comparison and a blend of the portable form.
inline F32 max(F32 a, F32 b) {
#if defined(__AVX512F__)
    return bits<F32>(_mm512_max_ps(bits<__m512>(a), bits<__m512>(b)));
#elif defined(__AVX2__)
    return bits<F32>(_mm256_max_ps(bits<__m256>(a), bits<__m256>(b)));
#else
    return a > b ? a : b;
#endif
}
inline F32 min(F32 a, F32 b) {
#if defined(__AVX512F__)
    return bits<F32>(_mm512_min_ps(bits<__m512>(a), bits<__m512>(b)));
#elif defined(__AVX2__)
    return bits<F32>(_mm256_min_ps(bits<__m256>(a), bits<__m256>(b)));
#else
    return a < b ? a : b;
#endif
}

/// 0, 1, 2, ...
inline U32 lane_numbers() {
    U32 lanes{};
    for (int i = 0; i < kLanes; ++i) lanes[i] = static_cast<std::uint32_t>(i);
    return lanes;
}

/// `value` where the lane number is below `count`, `other` elsewhere.
inline F32 keep_first(F32 value, int count, F32 other) {
    const I32 lanes = bits<I32>(lane_numbers());
    return lanes < (count - I32{}) ? value : other;
}

#if defined(__AVX512F__)
inline float sum(F32 v) { return _mm512_reduce_add_ps(reinterpret_cast<__m512&>(v)); }
inline float largest(F32 v) { return _mm512_reduce_max_ps(reinterpret_cast<__m512&>(v)); }
#else
inline float sum(F32 v) {
    float total = 0;
    for (int i = 0; i < kLanes; ++i) total += v[i];
    return total;
}
inline float largest(F32 v) {
    float best = v[0];
    for (int i = 1; i < kLanes; ++i) best = v[i] > best ? v[i] : best;
    return best;
}
#endif

/// Vectors of 16-bit words as words, and words as bytes: gcc takes the portable forms apart.
inline U32 widen(const std::uint16_t* from) {
#if defined(__AVX512F__)
    return bits<U32>(_mm512_cvtepu16_epi32(load_as<__m256i>(from)));
#elif defined(__AVX2__)
    return bits<U32>(_mm256_cvtepu16_epi32(load_as<__m128i>(from)));
#else
    return __builtin_convertvector(load_as<U16>(from), U32);
#endif
}
inline void store_low_bytes(std::uint8_t* to, U32 words) {
#if defined(__AVX512F__)
    store(to, _mm512_cvtepi32_epi8(bits<__m512i>(words)));
#else
    for (int i = 0; i < kLanes; ++i) to[i] = static_cast<std::uint8_t>(words[i]);
#endif
}

inline F32 square_root(F32 v) {
#if defined(__AVX512F__)
    return bits<F32>(_mm512_sqrt_ps(bits<__m512>(v)));
#elif defined(__AVX2__)
    return bits<F32>(_mm256_sqrt_ps(bits<__m256>(v)));
#else
    for (int i = 0; i < kLanes; ++i) v[i] = __builtin_sqrtf(v[i]);
    return v;
#endif
}

/// One half of a butterfly: every other run of Step lanes of b moved down into a, or of a up into
/// b.
template <int Step, bool Upper, std::size_t... Lane>
inline U32 exchange(U32 a, U32 b, std::index_sequence<Lane...>) {
    constexpr auto source = [](int lane) {
        if (lane & Step) return kLanes + (Upper ? lane : lane - Step);
        return Upper ? lane + Step : lane;
    };
    return __builtin_shufflevector(a, b, source(static_cast<int>(Lane))...);
}

/// Transposes a square of kLanes x kLanes words.
template <int Step = kLanes / 2>
inline void transpose(U32 (&rows)[kLanes]) {
    constexpr std::make_index_sequence<kLanes> lanes{};
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
        if (i & Step) continue;
        const U32 a = rows[i], b = rows[i + Step];
        rows[i] = exchange<Step, false>(a, b, lanes);
        rows[i + Step] = exchange<Step, true>(a, b, lanes);
    }
    if constexpr (Step > 1) transpose<Step / 2>(rows);
}

inline int minimum(int a, int b) { return a < b ? a : b; }
inline int round_up(int value, int multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

}  // namespace dmpc::cpu::DMPC_TARGET
