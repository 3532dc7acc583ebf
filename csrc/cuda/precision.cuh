// What a precision is to a kernel: how operands are kept, and how a warp multiplies tiles of them.
//
// A tile of sums is 16 rows times 16 columns, two fragments of 16 x 8. In both precisions a lane
// holds of each fragment rows g and g + 8 of columns 2 t and 2 t + 1, with g = lane / 4 and
// t = lane % 4, in the order of `multiply_tile`.
#pragma once

#include "device.cuh"
#include "sizes.hpp"

namespace dmpc::cuda {

/// A matrix of rows in shared memory, whose inner dimension may lie in pieces: dimension k of a row
/// is element (k / piece) * jump + k % piece.
template <class Element>
struct Operand {
    const Element* data;
    int stride, piece, jump;

    DMPC_DEVICE const Element* at(int row, int k) const {
        return data + row * stride + k / piece * jump + k % piece;
    }
};

/// Operands in bf16, products on tensor cores, sums in float32.
struct Bf16 {
    using Element = bf16;
    static constexpr Precision kPrecision = Precision::bf16;
    static constexpr int kDepth = unit_depth(kPrecision);
    /// Whether lanes read units that others have copied.
    static constexpr bool kSharesUnits = false;

    DMPC_DEVICE static void store(bf16* to, float first, float second) {
        *reinterpret_cast<std::uint32_t*>(to) = device::pack_bf16(first, second);
    }

    /// A unit holds what a lane multiplies with in 16 bytes: two registers for either fragment.
    template <int Rows>
    DMPC_DEVICE static void multiply_units(float (&sums)[Rows][2 * kUnitsPerStage][4],
                                           const Operand<bf16>& a, int row, int k,
                                           const std::uint8_t* units, int count) {
        const int lane = device::lane();
        std::uint32_t b[kUnitsPerStage][4] =
            {};  // for compilers that do not see that both loops end alike
#pragma unroll
        for (int u = 0; u < kUnitsPerStage; ++u) {
            if (u >= count) break;
            const auto* own =
                reinterpret_cast<const std::uint32_t*>(units + u * kUnitBytes + lane * 16);
#pragma unroll
            for (int i = 0; i < 4; ++i) b[u][i] = own[i];
        }
#pragma unroll
        for (int r = 0; r < Rows; ++r) {
            std::uint32_t tiles[4];
            device::load_tiles(tiles, a.at(row + r * kTile + lane % 16, k) + lane / 16 * 8);
#pragma unroll
            for (int u = 0; u < kUnitsPerStage; ++u) {
                if (u >= count) break;
                device::multiply_tile(sums[r][2 * u], tiles, b[u][0], b[u][1]);
                device::multiply_tile(sums[r][2 * u + 1], tiles, b[u][2], b[u][3]);
            }
        }
    }

    /// sums += a[0..15] . b[0..15], both of 16 dimensions; rows of `stride` elements.
    DMPC_DEVICE static void multiply_rows(float (&sums)[2][4], const bf16* a, const bf16* b,
                                          int stride) {
        const int lane = device::lane();
        std::uint32_t left[4], right[4];
        device::load_tiles(left, a + lane % 16 * stride + lane / 16 * 8);
        device::load_tiles(right, b + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8);
        device::multiply_tile(sums[0], left, right[0], right[1]);
        device::multiply_tile(sums[1], left, right[2], right[3]);
    }

    /// sums += weights (16, 16) times values (16 rows, 16 columns).
    DMPC_DEVICE static void multiply_weights(float (&sums)[2][4], const float* weights,
                                             int weight_stride, const bf16* values, int stride) {
        const int lane = device::lane();
        const float* own = weights + lane / 4 * weight_stride + lane % 4 * 2;
        const float* below = own + 8 * weight_stride;
        const std::uint32_t left[4] = {
            device::pack_bf16(own[0], own[1]), device::pack_bf16(below[0], below[1]),
            device::pack_bf16(own[8], own[9]), device::pack_bf16(below[8], below[9])};
        std::uint32_t right[4];
        device::load_tiles_transposed(right, values + lane % 16 * stride + lane / 16 * 8);
        device::multiply_tile(sums[0], left, right[0], right[1]);
        device::multiply_tile(sums[1], left, right[2], right[3]);
    }
};

/// Everything in IEEE float32, which has no tensor cores.
struct Float32 {
    using Element = float;
    static constexpr Precision kPrecision = Precision::float32;
    static constexpr int kDepth = unit_depth(kPrecision);
    static constexpr bool kSharesUnits = true;

    DMPC_DEVICE static void store(float* to, float first, float second) {
        to[0] = first;
        to[1] = second;
    }

    /// A unit is (kDepth, 16), row after row.
    template <int Rows>
    DMPC_DEVICE static void multiply_units(float (&sums)[Rows][2 * kUnitsPerStage][4],
                                           const Operand<float>& a, int row, int k,
                                           const std::uint8_t* units, int count) {
        const int g = device::lane() / 4, t = device::lane() % 4;
        for (int depth = 0; depth < kDepth; ++depth) {
            float left[Rows][2];
#pragma unroll
            for (int r = 0; r < Rows; ++r) {
                left[r][0] = *a.at(row + r * kTile + g, k + depth);
                left[r][1] = *a.at(row + r * kTile + g + 8, k + depth);
            }
#pragma unroll
            for (int part = 0; part < 2 * kUnitsPerStage; ++part) {
                if (part >= 2 * count) break;
                const auto* b = reinterpret_cast<const float*>(units + part / 2 * kUnitBytes) +
                                depth * kTile + part % 2 * 8 + 2 * t;
#pragma unroll
                for (int r = 0; r < Rows; ++r) add_outer(sums[r][part], left[r], b[0], b[1]);
            }
        }
    }

    DMPC_DEVICE static void multiply_rows(float (&sums)[2][4], const float* a, const float* b,
                                          int stride) {
        const int g = device::lane() / 4, t = device::lane() % 4;
        for (int k = 0; k < kTile; ++k) {
            const float left[2] = {a[g * stride + k], a[(g + 8) * stride + k]};
            for (int part = 0; part < 2; ++part) {
                const float* right = b + (part * 8 + 2 * t) * stride + k;
                add_outer(sums[part], left, right[0], right[stride]);
            }
        }
    }

    DMPC_DEVICE static void multiply_weights(float (&sums)[2][4], const float* weights,
                                             int weight_stride, const float* values, int stride) {
        const int g = device::lane() / 4, t = device::lane() % 4;
        for (int k = 0; k < kTile; ++k) {
            const float left[2] = {weights[g * weight_stride + k],
                                   weights[(g + 8) * weight_stride + k]};
            for (int part = 0; part < 2; ++part) {
                const float* right = values + k * stride + part * 8 + 2 * t;
                add_outer(sums[part], left, right[0], right[1]);
            }
        }
    }

    DMPC_DEVICE static void add_outer(float (&sums)[4], const float (&left)[2], float first,
                                      float second) {
        sums[0] += left[0] * first;
        sums[1] += left[0] * second;
        sums[2] += left[1] * first;
        sums[3] += left[1] * second;
    }
};

}  // namespace dmpc::cuda
