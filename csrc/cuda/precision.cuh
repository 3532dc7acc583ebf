// What a precision is to a kernel: how operands are kept, and how a warp multiplies tiles of them.
//
// A tile of sums is 16 rows times 16 columns, two fragments of 16 x 8. In both precisions a lane
// holds of each fragment rows g and g + 8 of columns 2 t and 2 t + 1, with g = lane / 4 and
// t = lane % 4, in the order of `multiply_tile`.
#pragma once

#include "device.cuh"
#include "sizes.hpp"

namespace dmpc::cuda {

/// A matrix in shared memory: panels of 8 columns, `panel` elements apart, whose rows are `stride`
/// elements apart. One row after another is a panel of 8.
template <class Element>
struct Rows {
    Element* data;
    int stride, panel;

    DMPC_DEVICE Element* at(int row, int column) const {
        return data + column / kPanel * panel + row * stride + column % kPanel;
    }
    /// The same without the columns before `column`, a multiple of 8.
    DMPC_DEVICE Rows from(int column) const {
        return {data + column / kPanel * panel, stride, panel};
    }
};

/// Rows whose inner dimension may lie in pieces: dimension k is column (k / piece) * jump + k %
/// piece.
template <class Element>
struct Operand {
    Rows<Element> rows;
    int piece, jump;

    DMPC_DEVICE const Element* at(int row, int k) const {
        return rows.at(row, k / piece * jump + k % piece);
    }
};

/// Operands in bf16, products on tensor cores by `mma.sync`, sums in float32.
struct Bf16 {
    using Element = bf16;
    static constexpr bool kWarpgroups = false;
    static constexpr Product kProduct = Product::mma_bf16;
    static constexpr int kDepth = unit_depth(kProduct);
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

    /// sums += a b', rows [a_row, + 16) of a and [b_row, + 16) of b, both of columns [d, d + 16).
    DMPC_DEVICE static void multiply_rows(float (&sums)[2][4], const Rows<bf16>& a, int a_row,
                                          const Rows<bf16>& b, int b_row, int d) {
        const int lane = device::lane();
        std::uint32_t left[4], right[4];
        device::load_tiles(left, a.at(a_row + lane % 16, d + lane / 16 * 8));
        device::load_tiles(right, b.at(b_row + lane % 8 + lane / 16 * 8, d + lane / 8 % 2 * 8));
        device::multiply_tile(sums[0], left, right[0], right[1]);
        device::multiply_tile(sums[1], left, right[2], right[3]);
    }

    /// sums += weights (16, 16) times values, rows [row, row + 16) of columns [d, d + 16).
    DMPC_DEVICE static void multiply_weights(float (&sums)[2][4], const float* weights,
                                             int weight_stride, const Rows<bf16>& values, int row,
                                             int d) {
        const int lane = device::lane();
        const float* own = weights + lane / 4 * weight_stride + lane % 4 * 2;
        const float* below = own + 8 * weight_stride;
        const std::uint32_t left[4] = {
            device::pack_bf16(own[0], own[1]), device::pack_bf16(below[0], below[1]),
            device::pack_bf16(own[8], own[9]), device::pack_bf16(below[8], below[9])};
        std::uint32_t right[4];
        device::load_tiles_transposed(right, values.at(row + lane % 16, d + lane / 16 * 8));
        device::multiply_tile(sums[0], left, right[0], right[1]);
        device::multiply_tile(sums[1], left, right[2], right[3]);
    }
};

/// The same with `wgmma` for what weights are multiplied with; attention is small and stays.
struct Bf16Warpgroup : Bf16 {
    static constexpr Product kProduct = Product::wgmma_bf16;
    static constexpr bool kWarpgroups = true;
};

}  // namespace dmpc::cuda

#include "precision_float.cuh"
