// IEEE 754 half precision as a model file may store it.
#pragma once

#include <bit>
#include <cstdint>

namespace dmpc {

/// Exact for every half, subnormals, infinities and NaN included.
constexpr float float_of_half(std::uint16_t half) noexcept {
    const std::uint32_t sign = std::uint32_t{half & 0x8000u} << 16;
    const std::uint32_t magnitude = half & 0x7FFFu;
    if (magnitude >= 0x7C00u) {
        return std::bit_cast<float>(sign | 0x7F800000u | (magnitude & 0x3FFu) << 13);
    }
    if (magnitude < 0x0400u) {  // a multiple of 2^-24
        const float value = static_cast<float>(magnitude) * 0x1p-24f;
        return sign ? -value : value;
    }
    return std::bit_cast<float>(sign | ((magnitude << 13) + (112u << 23)));
}

}  // namespace dmpc
