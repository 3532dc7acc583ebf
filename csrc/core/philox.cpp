#include "dmpc/philox.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace dmpc {
namespace {

constexpr std::uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
constexpr int kRounds = 10;

constexpr std::uint32_t low(std::uint64_t word) { return static_cast<std::uint32_t>(word); }
constexpr std::uint32_t high(std::uint64_t word) { return static_cast<std::uint32_t>(word >> 32); }

/// Exact in double precision, and so is its distance to 1: nothing is lost where log u is small.
double uniform(std::uint32_t word) { return (static_cast<double>(word >> 8) + 0.5) * 0x1p-24; }

struct Pair {
    float first, second;
};

Pair box_muller(std::uint32_t word0, std::uint32_t word1) {
    const double radius = std::sqrt(-2.0 * std::log(uniform(word0)));
    const double phase = 2.0 * std::numbers::pi * uniform(word1);
    return {static_cast<float>(radius * std::cos(phase)),
            static_cast<float>(radius * std::sin(phase))};
}

}  // namespace

PhiloxCounter philox4x32(PhiloxCounter c, std::uint64_t seed) noexcept {
    std::uint32_t key0 = low(seed), key1 = high(seed);
    for (int round = 0; round < kRounds; ++round) {
        const std::uint64_t product0 = kMultiplier0 * c[0], product1 = kMultiplier1 * c[2];
        c = {high(product1) ^ c[1] ^ key0, low(product1), high(product0) ^ c[3] ^ key1,
             low(product0)};
        key0 += kWeyl0;
        key1 += kWeyl1;
    }
    return c;
}

void normals(const NoisePosition& position, std::span<float> out) noexcept {
    const std::uint32_t last = std::uint32_t{position.robot} << 16 |
                               std::uint32_t{position.stage} << 8 | std::uint32_t{position.step};
    for (std::size_t start = 0; start < out.size(); start += 4) {
        const auto block = static_cast<std::uint32_t>(start / 4);
        const PhiloxCounter words =
            philox4x32({block, position.candidate, position.plan_index, last}, position.seed);
        const Pair a = box_muller(words[0], words[1]), b = box_muller(words[2], words[3]);
        const float four[] = {a.first, a.second, b.first, b.second};
        std::copy_n(four, std::min<std::size_t>(4, out.size() - start),
                    out.begin() + static_cast<std::ptrdiff_t>(start));
    }
}

}  // namespace dmpc
