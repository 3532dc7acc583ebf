// The random stream: Philox4x32-10 (Salmon et al. 2011) and Box-Muller. Words agree bit for bit
// with every other implementation, normals to a few ulps.
#pragma once

#include <cmath>

#include "device.cuh"

namespace dmpc::cuda {

/// The counter's words after its first, and the key.
struct NoiseStream {
    std::uint64_t seed;
    std::uint32_t candidate, plan_index;
    std::uint32_t last;  // robot << 16 | stage << 8 | step
};

DMPC_DEVICE void philox(std::uint32_t (&c)[4], std::uint64_t seed) {
    auto k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const std::uint32_t high0 = device::high_product(c[0], 0xD2511F53u);
        const std::uint32_t high1 = device::high_product(c[2], 0xCD9E8D57u);
        const std::uint32_t low0 = c[0] * 0xD2511F53u, low1 = c[2] * 0xCD9E8D57u;
        c[0] = high1 ^ c[1] ^ k0;
        c[1] = low1;
        c[2] = high0 ^ c[3] ^ k1;
        c[3] = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/// sqrt(-2 log u) for u = (2 n + 1) / 2^25, n the upper 24 bits of the word.
DMPC_DEVICE float box_muller_radius(std::uint32_t word) {
    const auto odd = static_cast<std::int32_t>((word >> 8) * 2u + 1u);
    // Above 1/2, u has 25 bits but 1 - u has at most 24: both sides stay exact in float32.
    const bool upper = odd >= 1 << 24;
    const float exact = static_cast<float>(upper ? (1 << 25) - odd : odd) * 0x1p-25f;
    return std::sqrt(-2.0f * (upper ? std::log1p(-exact) : std::log(exact)));
}

/// Cosine and sine of 2 pi (2 n + 1) / 2^25: the quadrant is removed in integers.
DMPC_DEVICE void box_muller_phase(std::uint32_t word, float& cosine, float& sine) {
    const auto turns = static_cast<std::int32_t>((word >> 8) * 2u + 1u);
    const std::int32_t quadrant = (turns + (1 << 22)) >> 23;
    const float halves = static_cast<float>(turns - (quadrant << 23)) * 0x1p-24f;
    const float c = device::cos_pi(halves), s = device::sin_pi(halves);
    const float first = (quadrant & 1) != 0 ? -s : c, second = (quadrant & 1) != 0 ? c : s;
    cosine = (quadrant & 2) != 0 ? -first : first;
    sine = (quadrant & 2) != 0 ? -second : second;
}

/// Normals of elements 4 block .. 4 block + 3.
DMPC_DEVICE void four_normals(const NoiseStream& stream, int block, float (&out)[4]) {
    std::uint32_t c[4] = {static_cast<std::uint32_t>(block), stream.candidate, stream.plan_index,
                          stream.last};
    philox(c, stream.seed);
    for (int pair = 0; pair < 2; ++pair) {
        const float radius = box_muller_radius(c[2 * pair]);
        float cosine, sine;
        box_muller_phase(c[2 * pair + 1], cosine, sine);
        out[2 * pair] = radius * cosine;
        out[2 * pair + 1] = radius * sine;
    }
}

DMPC_DEVICE float one_normal(const NoiseStream& stream, int element) {
    float four[4];
    four_normals(stream, element / 4, four);
    const float low = element % 2 == 0 ? four[0] : four[1];
    const float high = element % 2 == 0 ? four[2] : four[3];
    return element % 4 < 2 ? low : high;
}

}  // namespace dmpc::cuda
