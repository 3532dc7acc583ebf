// Precisions whose operands are kept in float32: multiplied as they are, or rounded to tf32.
#pragma once

#include "precision.cuh"

namespace dmpc::cuda {

/// Operands kept in float32 and rounded to tf32, products on tensor cores, sums in float32.
struct Tf32 {
    using Element = float;
    static constexpr bool kWarpgroups = false;
    static constexpr Product kProduct = Product::mma_tf32;
    static constexpr int kDepth = unit_depth(kProduct);
    static constexpr bool kSharesUnits = false;

    DMPC_DEVICE static void store(float* to, float first, float second) {
        to[0] = first;
        to[1] = second;
    }

    /// A unit holds what a lane multiplies with in 16 bytes, rounded: two registers for either
    /// fragment.
    template <int Rows>
    DMPC_DEVICE static void multiply_units(float (&sums)[Rows][2 * kUnitsPerStage][4],
                                           const Operand<float>& a, int row, int k,
                                           const std::uint8_t* units, int count) {
        const int lane = device::lane(), g = lane / 4, t = lane % 4;
        std::uint32_t left[Rows][4];
#pragma unroll
        for (int r = 0; r < Rows; ++r) {
            const int own = row + r * kTile + g;
            left[r][0] = device::round_tf32(*a.at(own, k + t));
            left[r][1] = device::round_tf32(*a.at(own + 8, k + t));
            left[r][2] = device::round_tf32(*a.at(own, k + t + 4));
            left[r][3] = device::round_tf32(*a.at(own + 8, k + t + 4));
        }
#pragma unroll
        for (int u = 0; u < kUnitsPerStage; ++u) {
            if (u >= count) break;
            const auto* b =
                reinterpret_cast<const std::uint32_t*>(units + u * kUnitBytes + lane * 16);
#pragma unroll
            for (int r = 0; r < Rows; ++r) {
                device::multiply_tile_tf32(sums[r][2 * u], left[r], b[0], b[1]);
                device::multiply_tile_tf32(sums[r][2 * u + 1], left[r], b[2], b[3]);
            }
        }
    }

    DMPC_DEVICE static void multiply_rows(float (&sums)[2][4], const Rows<float>& a, int a_row,
                                          const Rows<float>& b, int b_row, int d) {
        const int g = device::lane() / 4, t = device::lane() % 4;
        for (int k = d + t; k < d + kTile; k += 8) {
            const std::uint32_t left[4] = {device::round_tf32(*a.at(a_row + g, k)),
                                           device::round_tf32(*a.at(a_row + g + 8, k)),
                                           device::round_tf32(*a.at(a_row + g, k + 4)),
                                           device::round_tf32(*a.at(a_row + g + 8, k + 4))};
            for (int part = 0; part < 2; ++part) {
                const int right = b_row + part * 8 + g;
                device::multiply_tile_tf32(sums[part], left, device::round_tf32(*b.at(right, k)),
                                           device::round_tf32(*b.at(right, k + 4)));
            }
        }
    }

    DMPC_DEVICE static void multiply_weights(float (&sums)[2][4], const float* weights,
                                             int weight_stride, const Rows<float>& values, int row,
                                             int d) {
        const int g = device::lane() / 4, t = device::lane() % 4;
        const float* below = weights + 8 * weight_stride;
        for (int k = t; k < kTile; k += 8) {
            const int own = g * weight_stride + k;
            const std::uint32_t left[4] = {
                device::round_tf32(weights[own]), device::round_tf32(below[own]),
                device::round_tf32(weights[own + 4]), device::round_tf32(below[own + 4])};
            for (int part = 0; part < 2; ++part) {
                const int column = d + part * 8 + g;
                device::multiply_tile_tf32(sums[part], left,
                                           device::round_tf32(*values.at(row + k, column)),
                                           device::round_tf32(*values.at(row + k + 4, column)));
            }
        }
    }
};

/// Everything in IEEE float32, which has no tensor cores.
struct Float32 {
    using Element = float;
    static constexpr bool kWarpgroups = false;
    static constexpr Product kProduct = Product::fma_float32;
    static constexpr int kDepth = unit_depth(kProduct);
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

    DMPC_DEVICE static void multiply_rows(float (&sums)[2][4], const Rows<float>& a, int a_row,
                                          const Rows<float>& b, int b_row, int d) {
        const int g = device::lane() / 4, t = device::lane() % 4;
        for (int k = 0; k < kTile; ++k) {
            const float left[2] = {*a.at(a_row + g, d + k), *a.at(a_row + g + 8, d + k)};
            for (int part = 0; part < 2; ++part) {
                const int right = b_row + part * 8 + 2 * t;
                add_outer(sums[part], left, *b.at(right, d + k), *b.at(right + 1, d + k));
            }
        }
    }

    DMPC_DEVICE static void multiply_weights(float (&sums)[2][4], const float* weights,
                                             int weight_stride, const Rows<float>& values, int row,
                                             int d) {
        const int g = device::lane() / 4, t = device::lane() % 4;
        for (int k = 0; k < kTile; ++k) {
            const float left[2] = {weights[g * weight_stride + k],
                                   weights[(g + 8) * weight_stride + k]};
            for (int part = 0; part < 2; ++part) {
                const float* right = values.at(row + k, d + part * 8 + 2 * t);
                add_outer(sums[part], left, right[0], right[1]);
            }
        }
    }

private:
    DMPC_DEVICE static void add_outer(float (&sums)[4], const float (&left)[2], float first,
                                      float second) {
        sums[0] += left[0] * first;
        sums[1] += left[0] * second;
        sums[2] += left[1] * first;
        sums[3] += left[1] * second;
    }
};

}  // namespace dmpc::cuda
