// Elementary functions on vectors, float32, within about one unit in the last place unless they are
// asked for roughly. Coefficients are fits of the functions named beside them.
namespace dmpc::cpu::DMPC_TARGET {

// Adding this, 1.5 * 2^23, rounds to an integer and leaves it in the low bits.
constexpr float kRounding = 12582912.0f;

inline F32 exponential(F32 x) {
    x = min(max(x, splat(-87.0f)), splat(88.0f));
    const F32 shifted = x * 1.44269504088896341f + kRounding;
    const F32 n = shifted - kRounding;
    const F32 r = (x - n * 0.693359375f) + n * 2.12194440054690583e-4f;
    F32 p = splat(0.0013934544986106f);  // (exp(r) - 1 - r) / r^2
    p = p * r + 0.0083637767880098f;
    p = p * r + 0.0416664544525671f;
    p = p * r + 0.1666657328605652f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    return bits<F32>(bits<U32>(p) + (bits<U32>(shifted) << 23));
}

/// 2^x, all but 0 below the smallest normal number. Rough: within 8e-5 of the value, for what
/// bfloat16 rounds away afterwards.
template <bool Rough = false>
inline F32 power_of_two(F32 x) {
#if defined(__AVX512F__)
    if constexpr (Rough) {
        // What lies above the next lower integer, which is the exponent that `scalef` adds.
        const F32 r = bits<F32>(_mm512_reduce_ps(bits<__m512>(x), _MM_FROUND_TO_NEG_INF));
        F32 p = splat(0.0780244584275915f);
        p = p * r + 0.2260672468235218f;
        p = p * r + 0.6958335091105303f;
        p = p * r + 0.9999252200385556f;
        return bits<F32>(_mm512_scalef_ps(bits<__m512>(p), bits<__m512>(x)));
    }
#endif
    x = max(x, splat(-126.0f));
    const F32 shifted = x + kRounding;
    const F32 r = x - (shifted - kRounding);
    F32 p = splat(1.534580746249377e-4f);
    p = p * r + 1.339993118581139e-3f;
    p = p * r + 9.618488973965136e-3f;
    p = p * r + 0.05550328777069195f;
    p = p * r + 0.2402264689047925f;
    p = p * r + 0.6931472057372032f;
    p = p * r + 1.0f;
    return bits<F32>(bits<U32>(p) + (bits<U32>(shifted) << 23));
}

/// 1 / x for x in [1, 2^127]: where an estimate is cheaper than a division, it takes a Newton step
/// to be exact to an ulp.
template <bool Rough = false>
inline F32 reciprocal(F32 x) {
#if defined(__AVX512F__)
    const F32 estimate = bits<F32>(_mm512_rcp14_ps(bits<__m512>(x)));
    return Rough ? estimate : estimate * (2.0f - x * estimate);
#else
    return 1.0f / x;
#endif
}

inline F32 sigmoid(F32 x) { return reciprocal(1.0f + exponential(-x)); }

#if defined(__AVX512F__)
// Phi of gelu on [k - 1/2, k + 1/2] / 3.75 for k = -15..15, as a + b x + c x^2; row k mod 32, since
// that is what the low bits of a rounded k hold. The outermost two are 0 and 1 for good.
constexpr float kPhiSegments = 3.75f, kPhiEnd = 4.0f;
alignas(64) constexpr float kPhi[3][2 * kLanes] = {
    {5.0000000e-1f, 4.9904487e-1f, 4.9271053e-1f, 4.8285356e-1f, 4.7976065e-1f, 4.9639356e-1f,
     5.4037440e-1f, 6.0964954e-1f, 6.9387537e-1f, 7.7945858e-1f, 8.5472858e-1f, 9.1297376e-1f,
     9.5288229e-1f, 9.7710586e-1f, 9.9009168e-1f, 1.0f,          0.0f,          0.0f,
     9.9083241e-3f, 2.2894150e-2f, 4.7117691e-2f, 8.7026253e-2f, 1.4527144e-1f, 2.2054140e-1f,
     3.0612460e-1f, 3.9035046e-1f, 4.5962560e-1f, 5.0360644e-1f, 5.2023935e-1f, 5.1714647e-1f,
     5.0728947e-1f, 5.0095510e-1f},
    {3.9805356e-1f, 4.1149241e-1f, 4.4348648e-1f, 4.7375625e-1f, 4.8111838e-1f, 4.5394421e-1f,
     3.9425096e-1f, 3.1435773e-1f, 2.3001477e-1f, 1.5431592e-1f, 9.4707064e-2f, 5.2953031e-2f,
     2.6821027e-2f, 1.2223152e-2f, 4.9747075e-3f, 0.0f,          0.0f,          0.0f,
     4.9747075e-3f, 1.2223152e-2f, 2.6821027e-2f, 5.2953031e-2f, 9.4707064e-2f, 1.5431592e-1f,
     2.3001477e-1f, 3.1435773e-1f, 3.9425096e-1f, 4.5394421e-1f, 4.8111838e-1f, 4.7375625e-1f,
     4.4348648e-1f, 4.1149241e-1f},
    {-4.6837534e-15f,
     -5.1272482e-2f,
     -9.2040882e-2f,
     -1.1534490e-1f,
     -1.1969011e-1f,
     -1.0858458e-1f,
     -8.8316634e-2f,
     -6.5270752e-2f,
     -4.4147968e-2f,
     -2.7404228e-2f,
     -1.5600033e-2f,
     -8.1156790e-3f,
     -3.8372702e-3f,
     -1.6377238e-3f,
     -6.2613870e-4f,
     0.0f,
     0.0f,
     0.0f,
     6.2613870e-4f,
     1.6377238e-3f,
     3.8372702e-3f,
     8.1156790e-3f,
     1.5600033e-2f,
     2.7404228e-2f,
     4.4147968e-2f,
     6.5270752e-2f,
     8.8316634e-2f,
     1.0858458e-1f,
     1.1969011e-1f,
     1.1534490e-1f,
     9.2040882e-2f,
     5.1272482e-2f},
};

/// x Phi(x) within 2e-4: nine instructions in place of an exponential and a reciprocal.
inline F32 rough_gelu(F32 x) {
    // Of the smaller magnitude, with the sign of x; what is not a number stays so in the product.
    const __m512 near = _mm512_range_ps(bits<__m512>(x), _mm512_set1_ps(kPhiEnd), 2);
    const __m512i segment = bits<__m512i>(bits<F32>(near) * kPhiSegments + kRounding);
    const auto look_up = [&](const float* table) {
        return bits<F32>(
            _mm512_permutex2var_ps(_mm512_load_ps(table), segment, _mm512_load_ps(table + kLanes)));
    };
    return x * ((look_up(kPhi[2]) * x + look_up(kPhi[1])) * x + look_up(kPhi[0]));
}
#endif

/// x Phi(x) in its tanh form, written as x sigmoid(2 u): the same number with one exponential.
/// Rough: within 2e-4.
template <bool Rough = false>
inline F32 gelu(F32 x) {
#if defined(__AVX512F__)
    if constexpr (Rough) return rough_gelu(x);
#endif
    // -2 u log2(e)
    constexpr float slope = -2.0f * 0.7978845608028654f * 1.44269504088896341f;
    const F32 v = x * (x * x * (slope * 0.044715f) + slope);
    return x * reciprocal<Rough>(1.0f + power_of_two<Rough>(min(v, splat(126.0f))));
}

/// log(m 2^e) for m = 1 + f in [sqrt(1/2), sqrt(2)].
inline F32 logarithm(F32 f, F32 e) {
    // (log(1 + f) - f + f^2 / 2) / f^3
    F32 p = splat(0.0716014653444290f);
    p = p * f - 0.1158673688769341f;
    p = p * f + 0.1166476085782051f;
    p = p * f - 0.1240918859839439f;
    p = p * f + 0.1424945592880249f;
    p = p * f - 0.1666854322433472f;
    p = p * f + 0.2000072151422501f;
    p = p * f - 0.2499998807907105f;
    p = p * f + 0.3333333134651184f;
    const F32 square = f * f;
    const F32 small = p * f * square - e * 2.12194440054690583e-4f - 0.5f * square;
    return small + f + e * 0.693359375f;
}

/// Sine and cosine of an angle in [-pi/4, pi/4].
inline void sine_cosine(F32 angle, F32& sine, F32& cosine) {
    const F32 z = angle * angle;
    // (sin(x) - x) / x^3 and (cos(x) - 1 + x^2 / 2) / x^4, polynomials in x^2
    F32 s = splat(2.7249352569924667e-6f);
    s = s * z - 1.9840082677546889e-4f;
    s = s * z + 8.3333319053053856e-3f;
    s = s * z - 0.1666666716337204f;
    sine = s * z * angle + angle;
    F32 c = splat(-2.730047583554551e-7f);
    c = c * z + 2.480059629306197e-5f;
    c = c * z - 1.38888880610466e-3f;
    c = c * z + 0.0416666679084301f;
    cosine = c * z * z - 0.5f * z + 1.0f;
}

template <class Function>
inline void map(float* x, int count, Function function) {
    int i = 0;
    for (; i + kLanes <= count; i += kLanes) store(x + i, function(load(x + i)));
    if (i == count) return;
    float tail[kLanes] = {};
    for (int j = i; j < count; ++j) tail[j - i] = x[j];
    store(tail, function(load(tail)));
    for (int j = i; j < count; ++j) x[j] = tail[j - i];
}

inline void silu_array(float* x, int count) {
    map(x, count, [](F32 v) { return v * sigmoid(v); });
}

}  // namespace dmpc::cpu::DMPC_TARGET
