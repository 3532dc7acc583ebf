// Products of rows in shared memory with packed weights that stream in from global memory.
//
// A warp takes 32 columns and up to 64 rows at a time and has a ring of its own for the units of
// its weights, so that warps never wait for one another within a product.
#pragma once

#include "room.cuh"
#include "warpgroup.cuh"

namespace dmpc::cuda {

/// One warp's share of a product: `Rows` tiles of rows from `row` on, up to two tiles of columns.
/// result.pair(row, column, first, second) gets the sums of two columns, counted from the part's
/// first.
template <class P, int Rows, class Result>
DMPC_DEVICE void multiply(const Operand<typename P::Element>& a, const Weights& w, int row,
                          int column, std::uint8_t* ring, const Result& result) {
    const int lane = device::lane();
    const int count = w.columns - column < kUnitsPerStage ? w.columns - column : kUnitsPerStage;
    const std::int64_t column_bytes = std::int64_t{w.units_deep} * kUnitBytes;
    const std::uint8_t* source = w.units + (w.first_column + column) * column_bytes +
                                 std::int64_t{w.first_depth} * kUnitBytes + lane * 16;
    const auto fetch = [&](int step) {
        if (step < w.depths) {
            std::uint8_t* to = ring + step % kRingStages * kUnitsPerStage * kUnitBytes + lane * 16;
            for (int u = 0; u < count; ++u) {
                device::copy_async(to + u * kUnitBytes,
                                   source + u * column_bytes + std::int64_t{step} * kUnitBytes);
            }
        }
        device::commit_copies();
    };
    float sums[Rows][2 * kUnitsPerStage][4] = {};
    // The ring may still be read by lanes that are behind, for this or for what it held before.
    device::sync_warp();
    for (int step = 0; step < kRingStages - 1; ++step) fetch(step);
    for (int step = 0; step < w.depths; ++step) {
        device::wait_copies<kRingStages - 2>();
        if (P::kSharesUnits) device::sync_warp();
        // Into the place that the step before has read.
        fetch(step + kRingStages - 1);
        P::template multiply_units<Rows>(sums, a, row, step * P::kDepth,
                                         ring + step % kRingStages * kUnitsPerStage * kUnitBytes,
                                         count);
    }
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int r = 0; r < Rows; ++r) {
#pragma unroll
        for (int part = 0; part < 2 * kUnitsPerStage; ++part) {
            if (part >= 2 * count) break;
            const int to = column * kTile + part * 8 + 2 * t;
            result.pair(row + r * kTile + g, to, sums[r][part][0], sums[r][part][1]);
            result.pair(row + r * kTile + g + 8, to, sums[r][part][2], sums[r][part][3]);
        }
    }
}

/// By the warps of a block: 64 rows together where there are as many, then 32, then 16.
template <class P, class Result>
DMPC_DEVICE void multiply_by_warps(const Operand<typename P::Element>& a, const Weights& w,
                                   int tiles, Room<typename P::Element>& room,
                                   const Result& result) {
    std::uint8_t* const ring = room.scratch;
    const int fours = tiles / 4, twos = tiles / 2 % 2, ones = tiles % 2;
    const int chunks = fours + twos + ones;
    const int tasks = chunks * ceil_divide(w.columns, kUnitsPerStage);
    for (int task = device::warp(); task < tasks; task += kWarps) {
        const int chunk = task % chunks, column = task / chunks * kUnitsPerStage;
        if (chunk < fours) {
            multiply<P, 4>(a, w, chunk * 4 * kTile, column, ring, result);
        } else if (chunk < fours + twos) {
            multiply<P, 2>(a, w, fours * 4 * kTile, column, ring, result);
        } else {
            multiply<P, 1>(a, w, (tiles - 1) * kTile, column, ring, result);
        }
    }
}

/// A product of `tiles` by a block. Callers synchronise.
template <class P, class Result>
DMPC_DEVICE void product(const Operand<typename P::Element>& a, const Weights& w,
                         const Tiles& tiles, Room<typename P::Element>& room,
                         const Result& result) {
    if constexpr (P::kWarpgroups) {
        multiply_by_warpgroups(a, w, tiles, room, result);
    } else {
        multiply_by_warps<P>(a, w, tiles.own, room, result);
    }
}

}  // namespace dmpc::cuda
