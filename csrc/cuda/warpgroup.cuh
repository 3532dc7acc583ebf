// Products by warpgroups (sm_90a). Weights are the left operand: 64 of their columns are the 64
// rows that wgmma has at the least, so that few rows of the stream, its columns, waste nothing.
//
// Weights come by bulk copies into a ring of stages, 64 columns by 32 inner dimensions each. The
// first warp of a warpgroup orders a stage as soon as all four have done with what was there. Where
// several sets of candidates share a cluster, the blocks that read the same weights order a part of
// each stage each and send it to all (multicast): L2 is read once for all of them.
#pragma once

#include "descriptor.hpp"
#include "room.cuh"

namespace dmpc::cuda {

/// Orders stage `turn` of all products: the `step`th of the columns of `tile`, by one warp.
DMPC_DEVICE void order_stage(const Weights& w, int tile, int step, const Pipe& pipe,
                             unsigned turn) {
    const unsigned stage = turn % kGroupStages, use = turn / kGroupStages;
    const int left = w.depths - step * kStageUnits, lane = device::lane();
    const int deep = (left < kStageUnits ? left : kStageUnits) * (kTile / kPanel);
    const int rest = (w.columns * kTile - tile * kGroupColumns) / kPanel;
    const int panels = rest < kGroupColumns / kPanel ? rest : kGroupColumns / kPanel;
    const Place& place = pipe.place;
    if (use > 0) {
        if (place.sets > 1) {
            device::wait_barrier_of_cluster(pipe.free + stage, (use - 1) % 2);
        } else {
            device::wait_barrier(pipe.free + stage, (use - 1) % 2);
        }
    }
    if (lane == 0) device::arrive_expecting(pipe.full + stage, panels * deep * kCoreBytes);
    device::sync_warp();
    if (lane >= panels || lane % place.sets != place.set) return;
    const int whole = w.units_deep * (kTile / kPanel);
    const std::int64_t panel =
        std::int64_t{w.first_column} * (kTile / kPanel) + tile * (kGroupColumns / kPanel) + lane;
    const std::int64_t core =
        panel * whole + (w.first_depth + step * kStageUnits) * (kTile / kPanel);
    std::uint8_t* const to =
        pipe.stages + stage * kStageBytes + lane * (kStageBytes * kPanel / kGroupColumns);
    const std::uint8_t* const from = w.units + core * kCoreBytes;
    if (place.sets > 1) {
        device::copy_bulk_to(place.readers(), to, from, deep * kCoreBytes, pipe.full + stage);
    } else {
        device::copy_bulk(to, from, deep * kCoreBytes, pipe.full + stage);
    }
}

/// Issues a stage's products. A stage of one unit multiplies zeros in place of its second, since
/// compilers wait for every product on its own where one of them is under a condition.
template <int Count>
DMPC_DEVICE void multiply_stage(float (&sums)[Count * 8], const Operand<bf16>& a, int row, int k,
                                int units, const std::uint8_t* stage, const std::uint8_t* zeros) {
    static_assert(kStageUnits == 2);
    constexpr int kBetweenColumns = kStageBytes * kPanel / kGroupColumns;
    const std::uint64_t nothing = matrix_descriptor(device::shared_address(zeros), 0, 0);
    std::uint64_t left[kStageUnits], right[kStageUnits];
#pragma unroll
    for (int u = 0; u < kStageUnits; ++u) {
        const std::uint32_t columns = device::shared_address(stage + u * 2 * kCoreBytes);
        // Beyond the last unit, the place of the first: only to be replaced.
        const int own = k + (u < units ? u : 0) * kTile;
        const std::uint64_t rows = matrix_descriptor(device::shared_address(a.at(row, own)),
                                                     a.rows.panel * 2, a.rows.stride * kPanel * 2);
        left[u] = u < units ? matrix_descriptor(columns, kCoreBytes, kBetweenColumns) : nothing;
        right[u] = u < units ? rows : nothing;
    }
    device::fence_products();
#pragma unroll
    for (int u = 0; u < kStageUnits; ++u) {
        device::multiply_group<Count * kTile>(sums, left[u], right[u]);
    }
    device::commit_products();
}

/// `Count` tiles of rows from `row` on, of which those before `end` count, of all columns.
template <int Count, class Result>
DMPC_DEVICE void multiply_rows_by_warpgroups(const Operand<bf16>& a, const Weights& w, int row,
                                             int end, Pipe& pipe, const Result& result) {
    constexpr int kGroups = kWarps / kGroupWarps;
    // Uniform: compilers keep products under way only where they see that lanes stay together.
    const int group = device::uniform(device::warp() / kGroupWarps);
    const int warp = device::uniform(device::warp() % kGroupWarps);
    const int tiles = device::uniform(ceil_divide(w.columns * kTile, kGroupColumns));
    const int depths = device::uniform(w.depths), steps = ceil_divide(depths, kStageUnits);
    const int own = (tiles - group + kGroups - 1) / kGroups, total = own * steps;
    const auto first = static_cast<unsigned>(device::uniform(static_cast<int>(pipe.turn)));
    const auto order = [&](int i) {
        if (warp != 0 || i >= total) return;
        order_stage(w, group + i / steps * kGroups, i % steps, pipe,
                    first + static_cast<unsigned>(i));
    };
    const auto give_back = [&](int i) {
        device::Barrier* const freed =
            pipe.free + (first + static_cast<unsigned>(i)) % kGroupStages;
        if (pipe.place.sets > 1) {
            if (device::lane() < pipe.place.sets) {
                device::arrive_at_peer(freed, pipe.place.of_set(device::lane()));
            }
        } else if (device::lane() == 0) {
            device::arrive(freed);
        }
        order(i + kGroupStages);
    };
    for (int i = 0; i < kGroupStages; ++i) order(i);
    for (int tile = 0; tile < own; ++tile) {
        float sums[Count * 8] = {};
        device::hold(sums);
        for (int step = 0; step < steps; ++step) {
            const int i = tile * steps + step, left = depths - step * kStageUnits;
            const unsigned turn = first + static_cast<unsigned>(i), stage = turn % kGroupStages;
            device::wait_barrier(pipe.full + stage, turn / kGroupStages % 2);
            device::sync_warp();  // lanes may have waited, and ordered, apart
            multiply_stage<Count>(sums, a, row, step * kStageUnits * kTile, left,
                                  pipe.stages + stage * kStageBytes, pipe.zeros);
            device::wait_products<1>();
            if (step > 0) give_back(i - 1);
        }
        device::wait_products<0>();
        device::hold(sums);
        give_back((tile + 1) * steps - 1);
        const int column = (group + tile * kGroups) * kGroupColumns + warp * kTile;
        if (column >= w.columns * kTile) continue;
#pragma unroll
        for (int r = 0; r < Count; ++r) {
            if (row + r * kTile < end) result.tile(row + r * kTile, column, sums + r * 8);
        }
    }
    pipe.turn = first + static_cast<unsigned>(total);
}

template <class Element, class Result>
DMPC_DEVICE void multiply_by_warpgroups(const Operand<Element>& a, const Weights& w,
                                        const Tiles& tiles, Room<Element>& room,
                                        const Result& result) {
    const int end = tiles.own * kTile;
    for (int done = 0; done < tiles.streamed; done += group_tiles(tiles.streamed - done)) {
        const int row = done * kTile;
        switch (group_tiles(tiles.streamed - done)) {
            case 8: multiply_rows_by_warpgroups<8>(a, w, row, end, room.pipe, result); break;
            case 4: multiply_rows_by_warpgroups<4>(a, w, row, end, room.pipe, result); break;
            case 2: multiply_rows_by_warpgroups<2>(a, w, row, end, room.pipe, result); break;
            default: multiply_rows_by_warpgroups<1>(a, w, row, end, room.pipe, result);
        }
    }
}

}  // namespace dmpc::cuda
