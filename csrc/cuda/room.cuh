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

/// A block's place in its cluster: sets one after another, the blocks that share one side by side.
/// Blocks of the same split read the same weights at the same time.
struct Place {
    int set, sets;
    int split, splits;
    bool apart;  // the blocks of a set are no cluster

    /// The rank in the cluster of a block of this one's set.
    DMPC_DEVICE int of_split(int other) const { return set * splits + other; }
    /// And of the block that reads the same weights for another set.
    DMPC_DEVICE int of_set(int other) const { return other * splits + split; }
    /// All blocks that read them, a bit each.
    DMPC_DEVICE unsigned readers() const {
        unsigned bits = 0;
        for (int other = 0; other < sets; ++other) bits |= 1u << of_set(other);
        return bits;
    }
};

/// Where the blocks of a set that is no cluster meet: in global memory, all of them at once on the
/// device. operand: normalised rows; parts: of every block, `part_bytes` apart.
struct Meeting {
    unsigned* counter;
    unsigned count;  // of meetings, by now
    std::uint8_t *operand, *parts;
    int part_bytes;
};

/// Tiles of rows of a product: those that there are, and those that weights are read for.
struct Tiles {
    int own, streamed;
};

/// The stages of a warpgroup's weights: each is full, then free, in turns. Where sets share weights
/// each of their blocks orders a part of every stage for all, once it is free in all.
struct Pipe {
    std::uint8_t *stages, *zeros;  // zeros: 8 x 8 of them
    device::Barrier *full, *free;
    unsigned turn;  // stages that have been read, of all products
    Place place;
    device::Barrier* met;  // of sets
    unsigned meetings;
};

template <class Element>
struct Room {
    Place place;
    Rows<Element> work;  // queries, keys and values, or hidden columns
    int work_columns;
    std::uint8_t* scratch;  // of this warp: ring of weights, or weights of attention
    int candidates;         // of a set, at most
    Meeting meeting;
    Pipe pipe;  // of this warpgroup, where products are by warpgroups
};

template <class P>
DMPC_DEVICE Room<typename P::Element> make_room(const SharedLayout& layout, std::uint8_t* shared,
                                                const Place& place, int candidates,
                                                const Meeting& meeting) {
    using Element = typename P::Element;
    std::uint8_t* const scratch = shared + layout.scratch;
    const int group = device::warp() / kGroupWarps;
    auto* const barriers =
        reinterpret_cast<device::Barrier*>(shared + layout.barriers) + group * 2 * kGroupStages;
    auto* const met = reinterpret_cast<device::Barrier*>(shared + layout.barriers) + kStageBarriers;
    static_assert(kWarps / kGroupWarps * 2 * kGroupStages == kStageBarriers);
    static_assert((kStageBarriers + 1) * sizeof(device::Barrier) <= kBarrierBytes);
    if constexpr (P::kWarpgroups) {
        if (device::thread() == 0) device::start_barrier(met, place.sets);
        if (device::thread() % (kGroupWarps * kLanes) == 0) {
            for (int stage = 0; stage < kGroupStages; ++stage) {
                device::start_barrier(barriers + stage, 1);
                device::start_barrier(barriers + kGroupStages + stage, kGroupWarps * place.sets);
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
        place,
        {reinterpret_cast<Element*>(shared + layout.work), layout.work_stride, layout.work_panel},
        layout.work_columns,
        scratch + device::warp() * layout.scratch_bytes,
        candidates,
        meeting,
        {scratch + group * kGroupWarps * layout.scratch_bytes, shared + layout.zeros, barriers,
         barriers + kGroupStages, 0, place, met, 0}};
}

/// Before threads meet: what this one has written to shared memory, here and in peers, or read
/// there, comes before what matrix products and bulk copies do afterwards.
template <class P>
DMPC_DEVICE void publish() {
    if constexpr (P::kWarpgroups) device::fence_async();
}

/// Meets the blocks of the cluster or, where they are apart, of the set: what they have written, to
/// any memory, is seen by all afterwards.
template <class P>
DMPC_DEVICE void sync_set(Room<typename P::Element>& room) {
    if constexpr (!P::kWarpgroups) {
        if (room.place.apart) {
            device::fence();
            device::sync_block();
            ++room.meeting.count;
            if (device::thread() == 0) {
                device::add_atomically(room.meeting.counter, 1);
                device::wait_counter(room.meeting.counter,
                                     room.meeting.count * static_cast<unsigned>(room.place.splits));
                device::fence();
            }
            device::sync_block();
            return;
        }
    }
    device::sync_cluster();
}

/// 8 bytes at a time, by a block, of memory that others may just have written.
DMPC_DEVICE void copy_fresh(void* to, const void* from, int bytes) {
    const auto* source = static_cast<const std::uint64_t*>(from);
    for (int i = device::thread(); i < bytes / 8; i += kThreads) {
        static_cast<std::uint64_t*>(to)[i] = device::load_fresh(source + i);
    }
}

/// Meets the blocks that read the same weights for other sets; callers have met their own block.
DMPC_DEVICE void meet_sets(Pipe& pipe) {
    if (device::thread() < pipe.place.sets) {
        device::arrive_at_peer(pipe.met, pipe.place.of_set(device::thread()));
    }
    device::wait_barrier_of_cluster(pipe.met, pipe.meetings % 2);
    ++pipe.meetings;
}

}  // namespace dmpc::cuda
