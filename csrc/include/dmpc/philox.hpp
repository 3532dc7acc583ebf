// The one random stream: Philox4x32-10 with Box-Muller (Salmon et al. 2011), as in
// dmpc_fast/philox.py.
//
// This is the plain form, accurate to half an ulp, that the engine's vectorised one is tested
// against.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace dmpc {

using PhiloxCounter = std::array<std::uint32_t, 4>;

inline constexpr int kMaxRobot = 0xFFFF;
inline constexpr int kMaxStep = 0xFF;

/// Random words of a counter under the 64-bit key `seed`.
PhiloxCounter philox4x32(PhiloxCounter counter, std::uint64_t seed) noexcept;

/// Where in the stream one candidate's noise of one sampler step lies.
struct NoisePosition {
    std::uint64_t seed = 0;
    std::uint32_t candidate = 0;
    std::uint32_t plan_index = 0;
    std::uint16_t robot = 0;
    std::uint8_t stage = 0;  // 0 proposal, 1 dynamics
    std::uint8_t step = 0;   // 0 for the initial noise, i + 1 for the fresh noise of sampler row i
};

/// Standard normals; element k x dim + i of the candidate's (F, dim) array stands at that index.
void normals(const NoisePosition& position, std::span<float> out) noexcept;

}  // namespace dmpc
