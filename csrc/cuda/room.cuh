// What a block works with: its place in the cluster and its shared memory.
#pragma once

#include "precision.cuh"

namespace dmpc::cuda {

/// Part of a packed matrix.
struct Weights {
    const std::uint8_t* units;
    int units_deep;             // of the whole matrix
    int first_depth, depths;    // inner dimensions, in units
    int first_column, columns;  // in tiles of 16
};

/// The stages of a warpgroup's weights: each is full, then free, in turns.
struct Pipe {
    std::uint8_t *stages, *zeros;  // zeros: 8 x 8 of them
    device::Barrier *full, *free;
    unsigned turn;  // stages that have been read, of all products
};

template <class Element>
struct Room {
    int rank, cluster;
    Rows<Element> work;  // queries, keys and values, or hidden columns
    int work_columns;
    std::uint8_t* scratch;  // of this warp: ring of weights, or weights of attention
    Pipe pipe;              // of this warpgroup, where products are by warpgroups
};

template <class P>
DMPC_DEVICE Room<typename P::Element> make_room(const SharedLayout& layout, std::uint8_t* shared,
                                                int rank, int cluster) {
    using Element = typename P::Element;
    std::uint8_t* const scratch = shared + layout.scratch;
    const int group = device::warp() / kGroupWarps;
    auto* const barriers =
        reinterpret_cast<device::Barrier*>(shared + layout.barriers) + group * 2 * kGroupStages;
    if constexpr (P::kWarpgroups) {
        if (device::thread() % (kGroupWarps * kLanes) == 0) {
            for (int stage = 0; stage < kGroupStages; ++stage) {
                device::start_barrier(barriers + stage, 1);
                device::start_barrier(barriers + kGroupStages + stage, kGroupWarps);
            }
            device::publish_barriers();
        }
        if (device::warp() == 0) {
            reinterpret_cast<float*>(shared + layout.zeros)[device::lane()] = 0;
            device::fence_async();
        }
        device::sync_block();
    }
    return {
        rank,
        cluster,
        {reinterpret_cast<Element*>(shared + layout.work), layout.work_stride, layout.work_panel},
        layout.work_columns,
        scratch + device::warp() * layout.scratch_bytes,
        {scratch + group * kGroupWarps * layout.scratch_bytes, shared + layout.zeros, barriers,
         barriers + kGroupStages, 0}};
}

/// Before threads meet: what this one has written to shared memory, here and in peers, or read
/// there, comes before what matrix products and bulk copies do afterwards.
template <class P>
DMPC_DEVICE void publish() {
    if constexpr (P::kWarpgroups) device::fence_async();
}

}  // namespace dmpc::cuda
