// What wgmma is told of a matrix in shared memory. Plain C++: the emulation decodes what kernels
// encode.
#pragma once

#include <cstdint>

#include "sizes.hpp"

namespace dmpc::cuda {

/// Of a matrix of bf16 whose inner dimension runs along panels of 16 bytes, without swizzle: 8 rows
/// of a panel are 128 bytes. address: in shared memory, a multiple of 16. between_panels: bytes
/// from a panel to the next; between_rows: from 8 rows to the next 8.
DMPC_HOST_DEVICE constexpr std::uint64_t matrix_descriptor(std::uint32_t address,
                                                           int between_panels, int between_rows) {
    const auto field = [](std::uint32_t bytes) { return std::uint64_t{(bytes & 0x3FFFF) >> 4}; };
    return field(address) | field(static_cast<std::uint32_t>(between_panels)) << 16 |
           field(static_cast<std::uint32_t>(between_rows)) << 32;
}

/// How 16 bytes are exchanged within a panel: the descriptor's last two bits.
enum class Swizzle : int { none = 0, bytes_128 = 1, bytes_64 = 2, bytes_32 = 3 };

/// A descriptor, decoded. Addresses are those of shared memory.
struct MatrixPlace {
    std::uint32_t address, between_panels, between_rows, base_offset;
    Swizzle swizzle;

    /// Address of the inner dimension `k` (below 16) of `row`.
    constexpr std::uint32_t at(std::uint32_t row, std::uint32_t k) const {
        std::uint32_t place;
        std::uint32_t mask = 0;
        if (swizzle == Swizzle::none) {
            place = k / 8 * between_panels + row % 8 * 16;
        } else {
            const std::uint32_t bytes = 256u >> static_cast<int>(swizzle);
            place = k / 8 * 16 + row % 8 * bytes;
            mask = bytes / 16 - 1;
        }
        place += address + row / 8 * between_rows;
        return (place ^ ((place >> 7) & mask) << 4) + k % 8 * 2;
    }
};

constexpr MatrixPlace decode(std::uint64_t descriptor) {
    const auto field = [&](int shift) {
        return static_cast<std::uint32_t>(descriptor >> shift & 0x3FFF) << 4;
    };
    return {field(0), field(16), field(32), static_cast<std::uint32_t>(descriptor >> 49 & 7),
            static_cast<Swizzle>(descriptor >> 62)};
}

}  // namespace dmpc::cuda
