// The random stream: Philox4x32-10 (Salmon et al. 2011) and Box-Muller, a vector of counters at a
// time. Words agree bit for bit with every other implementation, normals to a few ulps.
namespace dmpc::cpu::DMPC_TARGET {

/// Low and high halves of a 32 x 32 bit product, lane by lane.
inline void multiply_wide(U32 a, std::uint32_t b, U32& low, U32& high) {
    low = a * b;
#if defined(__AVX512F__)
    const __m512i x = bits<__m512i>(a), y = _mm512_set1_epi32(static_cast<int>(b));
    const __m512i even = _mm512_mul_epu32(x, y);
    const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), y);
    high = bits<U32>(_mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd));
#elif defined(__AVX2__)
    const __m256i x = bits<__m256i>(a), y = _mm256_set1_epi32(static_cast<int>(b));
    const __m256i even = _mm256_mul_epu32(x, y);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), y);
    high = bits<U32>(_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA));
#else
    for (int i = 0; i < kLanes; ++i) {
        high[i] = static_cast<std::uint32_t>(std::uint64_t{a[i]} * b >> 32);
    }
#endif
}

inline void philox(U32 (&c)[4], std::uint64_t seed) {
    auto k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        U32 low0, high0, low1, high1;
        multiply_wide(c[0], 0xD2511F53u, low0, high0);
        multiply_wide(c[2], 0xCD9E8D57u, low1, high1);
        c[0] = high1 ^ c[1] ^ k0;
        c[1] = low1;
        c[2] = high0 ^ c[3] ^ k1;
        c[3] = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/// sqrt(-2 log u) for u = (2 n + 1) / 2^25, n the upper 24 bits of the word.
inline F32 box_muller_radius(U32 word) {
    const U32 odd = (word >> 8) * 2u + 1u;  // u 2^25
    // Above 1/2, u has 25 bits but 1 - u has at most 24: both sides stay exact in float32.
    const I32 upper = bits<I32>(odd) >= ((1 << 24) - I32{});
    const U32 exact = upper ? (1u << 25) - odd : odd;
    const F32 value = __builtin_convertvector(bits<I32>(exact), F32);
    const F32 tiny = splat(2.98023223876953125e-8f);  // 2^-25
    // Lower half: split u = m 2^e with m in [sqrt(1/2), sqrt(2)].
    const U32 word_of = bits<U32>(value) - 0x3F3504F3u;
    const I32 exponent = bits<I32>(word_of) >> 23;
    const F32 mantissa = bits<F32>((word_of & 0x007FFFFFu) + 0x3F3504F3u);
    const F32 low_f = mantissa - 1.0f;
    const F32 low_e = __builtin_convertvector(exponent, F32) - 25.0f;
    // Upper half: u = 1 - d; below sqrt(1/2) it is (1 + (1 - 2 d)) / 2.
    const F32 d = value * tiny;
    const I32 far = d > splat(0.29289321881f);
    const F32 high_f = far ? 1.0f - 2.0f * d : -d;
    const F32 high_e = far ? splat(-1.0f) : F32{};
    const F32 log_u = logarithm(upper ? high_f : low_f, upper ? high_e : low_e);
    return square_root(-2.0f * log_u);
}

/// Cosine and sine of 2 pi (2 n + 1) / 2^25: the quadrant is removed in integers.
inline void box_muller_phase(U32 word, F32& cosine, F32& sine) {
    const I32 turns = bits<I32>((word >> 8) * 2u + 1u);
    const I32 quadrant = (turns + (1 << 22)) >> 23;
    const F32 rest = __builtin_convertvector(turns - (quadrant << 23), F32);
    F32 s, c;
    sine_cosine(rest * 1.87253514146e-7f, s, c);  // 2 pi / 2^25
    const I32 swap = (quadrant & 1) != I32{};
    const F32 first = swap ? s : c, second = swap ? c : s;
    // cos is negative in quadrants 1 and 2, sin in 2 and 3.
    const U32 cos_sign = bits<U32>((quadrant + 1) & 2) << 30;
    const U32 sin_sign = bits<U32>(quadrant & 2) << 30;
    cosine = bits<F32>(bits<U32>(first) ^ cos_sign);
    sine = bits<F32>(bits<U32>(second) ^ sin_sign);
}

/// Lanes of a and b in turns: those of their lower or upper halves.
template <bool Upper, std::size_t... Lane>
inline F32 zip(F32 a, F32 b, std::index_sequence<Lane...>) {
    constexpr auto source = [](std::size_t lane) {
        return static_cast<int>(lane / 2 + (lane % 2 ? kLanes : 0) + (Upper ? kLanes / 2 : 0));
    };
    return __builtin_shufflevector(a, b, source(Lane)...);
}

inline void normals(const Normals& n) {
    const int blocks = (n.count + 3) / 4;
    for (int block = 0; block < blocks; block += kLanes) {
        U32 c[4] = {lane_numbers() + static_cast<std::uint32_t>(block), splat(n.candidate),
                    splat(n.plan_index), splat(n.last_word)};
        philox(c, n.seed);
        // Numbers 4 i + part in lane i.
        F32 parts[4];
        for (int pair = 0; pair < 2; ++pair) {
            const F32 radius = box_muller_radius(c[2 * pair]);
            F32 cosine, sine;
            box_muller_phase(c[2 * pair + 1], cosine, sine);
            parts[2 * pair] = radius * cosine;
            parts[2 * pair + 1] = radius * sine;
        }
        float* out = n.out + 4 * static_cast<std::ptrdiff_t>(block);
        const int count = minimum(4 * kLanes, n.count - 4 * block);
        float tail[4 * kLanes];
        float* to = count == 4 * kLanes ? out : tail;
        const F32 even[2] = {zip<false>(parts[0], parts[2], kEveryLane),
                             zip<true>(parts[0], parts[2], kEveryLane)};
        const F32 odd[2] = {zip<false>(parts[1], parts[3], kEveryLane),
                            zip<true>(parts[1], parts[3], kEveryLane)};
        for (int half = 0; half < 2; ++half, to += 2 * kLanes) {
            store(to, zip<false>(even[half], odd[half], kEveryLane));
            store(to + kLanes, zip<true>(even[half], odd[half], kEveryLane));
        }
        if (count < 4 * kLanes) {
            __builtin_memcpy(out, tail, static_cast<std::size_t>(count) * sizeof(float));
        }
    }
}

}  // namespace dmpc::cpu::DMPC_TARGET
