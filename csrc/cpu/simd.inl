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
constexpr int kTallTile = kRowTile * 4 / 3;  // rows where a tile has a single vector of columns
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
#if defined(__AVX2__) && !defined(__AVX512F__)
/// Words as 16 bits: of one vector, or of two one behind the other.
inline void store_low_halves(std::int16_t* to, U32 words) {
    const __m256i low = bits<__m256i>(words & 0xFFFFu);
    store(to,
          _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0b1000)));
}
inline void store_low_halves(std::int16_t* to, U32 first, U32 second) {
    const __m256i both =
        _mm256_packus_epi32(bits<__m256i>(first & 0xFFFFu), bits<__m256i>(second & 0xFFFFu));
    store(to, _mm256_permute4x64_epi64(both, 0b11011000));
}
#endif

#if defined(__AVX512F__)
/// Those of two vectors one behind the other; the words are moved by halves first, which is cheap.
inline void store_low_bytes(std::uint8_t* to, U32 first, U32 second) {
    alignas(64) static constexpr auto low_halves = [] {
        struct {
            std::uint16_t half[2 * kLanes];
        } result{};
        for (int i = 0; i < 2 * kLanes; ++i) result.half[i] = static_cast<std::uint16_t>(2 * i);
        return result;
    }();
    const __m512i order = load_as<__m512i>(low_halves.half);
    store(to, _mm512_cvtepi16_epi8(
                  _mm512_permutex2var_epi16(bits<__m512i>(first), order, bits<__m512i>(second))));
}
#else
inline void store_low_bytes(std::uint8_t* to, U32 first, U32 second) {
    store_low_bytes(to, first);
    store_low_bytes(to + kLanes, second);
}
#endif

/// The larger of each pair of unsigned 16-bit halves of words.
inline U32 larger_halves(U32 a, U32 b) {
#if defined(__AVX512F__)
    return bits<U32>(_mm512_max_epu16(bits<__m512i>(a), bits<__m512i>(b)));
#elif defined(__AVX2__)
    return bits<U32>(_mm256_max_epu16(bits<__m256i>(a), bits<__m256i>(b)));
#else
    const U32 a_low = a & 0xFFFFu, b_low = b & 0xFFFFu;
    const U32 a_high = a & 0xFFFF0000u, b_high = b & 0xFFFF0000u;
    return (a_low > b_low ? a_low : b_low) | (a_high > b_high ? a_high : b_high);
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
template <int Step, bool Upper, class V, std::size_t... Lane>
inline V exchange(V a, V b, std::index_sequence<Lane...>) {
    constexpr auto source = [](int lane) {
        if (lane & Step) return kLanes + (Upper ? lane : lane - Step);
        return Upper ? lane + Step : lane;
    };
    return __builtin_shufflevector(a, b, source(static_cast<int>(Lane))...);
}
constexpr std::make_index_sequence<kLanes> kEveryLane{};

/// Transposes squares of Count x Count words that stand side by side; Count may be kLanes or half.
template <int Count, int Step = Count / 2>
inline void transpose(U32 (&rows)[Count]) {
#pragma GCC unroll 16
    for (int i = 0; i < Count; ++i) {
        if (i & Step) continue;
        const U32 a = rows[i], b = rows[i + Step];
        rows[i] = exchange<Step, false>(a, b, kEveryLane);
        rows[i + Step] = exchange<Step, true>(a, b, kEveryLane);
    }
    if constexpr (Step > 1) transpose<Count, Step / 2>(rows);
}

/// Lane i: the lanes of rows[i] combined. Rows are lost.
template <int Step = kLanes / 2, class Combine>
inline F32 fold(F32 (&rows)[kLanes], Combine combine) {
#pragma GCC unroll 16
    for (int i = 0; i < Step; ++i) {
        const F32 a = rows[i], b = rows[i + Step];
        rows[i] = combine(exchange<Step, false>(a, b, kEveryLane),
                          exchange<Step, true>(a, b, kEveryLane));
    }
    if constexpr (Step > 1) return fold<Step / 2>(rows, combine);
    return rows[0];
}
inline F32 sum_of_each(F32 (&rows)[kLanes]) {
    return fold(rows, [](F32 a, F32 b) { return a + b; });
}
inline F32 largest_of_each(F32 (&rows)[kLanes]) {
    return fold(rows, [](F32 a, F32 b) { return max(a, b); });
}

/// Half a vector of words from each of two places.
inline U32 join_halves(const void* low, const void* high) {
#if defined(__AVX512F__)
    const __m512i half = _mm512_castsi256_si512(load_as<__m256i>(static_cast<const char*>(low)));
    return bits<U32>(_mm512_inserti64x4(half, load_as<__m256i>(static_cast<const char*>(high)), 1));
#elif defined(__AVX2__)
    const __m256i half = _mm256_castsi128_si256(load_as<__m128i>(static_cast<const char*>(low)));
    return bits<U32>(
        _mm256_inserti128_si256(half, load_as<__m128i>(static_cast<const char*>(high)), 1));
#else
    U32 both;
    __builtin_memcpy(&both, low, sizeof both / 2);
    __builtin_memcpy(reinterpret_cast<char*>(&both) + sizeof both / 2, high, sizeof both / 2);
    return both;
#endif
}

/// Words of neighbours from two runs of kLanes 16-bit words, those of `even` in the low halves.
inline U32 interleave(const std::uint16_t* even, const std::uint16_t* odd) {
#if defined(__AVX512F__)
    alignas(64) static constexpr auto order = [] {
        struct {
            std::uint16_t word[2 * kLanes];
        } result{};
        for (int i = 0; i < kLanes; ++i) {
            result.word[2 * i] = static_cast<std::uint16_t>(i);
            result.word[2 * i + 1] = static_cast<std::uint16_t>(kLanes + i);
        }
        return result;
    }();
    return bits<U32>(_mm512_permutexvar_epi16(load_as<__m512i>(order.word),
                                              bits<__m512i>(join_halves(even, odd))));
#else
    return widen(even) | widen(odd) << 16;
#endif
}

/// Whether a comparison holds in every lane.
inline bool everywhere(I32 comparison) {
#if defined(__AVX512F__)
    const __m512i lanes = bits<__m512i>(comparison);
    return _mm512_test_epi32_mask(lanes, lanes) == 0xFFFFu;
#else
    std::int32_t all = -1;
    for (int i = 0; i < kLanes; ++i) all &= comparison[i];
    return all != 0;
#endif
}

inline int minimum(int a, int b) { return a < b ? a : b; }
inline int round_up(int value, int multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

}  // namespace dmpc::cpu::DMPC_TARGET
