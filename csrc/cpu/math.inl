// Elementary functions on vectors, float32, within about one unit in the last place unless they are
// asked for roughly. Coefficients are Chebyshev fits of the functions named beside them.
namespace dmpc::cpu::DMPC_TARGET {

/// Rough: within 1e-5 of the value, for what bfloat16 rounds away afterwards.
template <bool Rough = false>
inline F32 exponential(F32 x) {
    x = min(max(x, splat(-87.0f)), splat(88.0f));
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const F32 magic = splat(12582912.0f);
    const F32 shifted = x * 1.44269504088896341f + magic;
    const F32 n = shifted - magic;
    F32 p;
    if constexpr (Rough) {
        const F32 r = x - n * 0.693147180559945f;
        p = splat(0.0419180318713188f);  // exp(r)
        p = p * r + 0.1679241210222244f;
        p = p * r + 0.4999886453151703f;
        p = p * r + 0.9999621510505676f;
        p = p * r + 1.0f;
    } else {
        const F32 r = (x - n * 0.693359375f) + n * 2.12194440054690583e-4f;
        p = splat(0.0013934544986106f);  // (exp(r) - 1 - r) / r^2
        p = p * r + 0.0083637767880098f;
        p = p * r + 0.0416664544525671f;
        p = p * r + 0.1666657328605652f;
        p = p * r + 0.5f;
        p = p * r * r + r + 1.0f;
    }
#if defined(__AVX512F__)
    return bits<F32>(_mm512_scalef_ps(bits<__m512>(p), bits<__m512>(n)));
#else
    return bits<F32>(bits<U32>(p) + (bits<U32>(shifted) << 23));
#endif
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

/// x Phi(x) in its tanh form, written as x sigmoid(2 u): the same number with one exponential.
template <bool Rough = false>
inline F32 gelu(F32 x) {
    const F32 u =
        x * (x * x * (-2.0f * 0.7978845608028654f * 0.044715f) - 2.0f * 0.7978845608028654f);
    return x * reciprocal<Rough>(1.0f + exponential<Rough>(u));
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

inline void sigmoid_array(float* x, int count) {
    map(x, count, [](F32 v) { return sigmoid(v); });
}

}  // namespace dmpc::cpu::DMPC_TARGET
