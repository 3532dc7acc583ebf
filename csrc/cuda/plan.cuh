// A whole plan as one program: the blocks of a cluster, or a set of them, take their candidates
// through every row of both samplers, the objective and the scores; the block that is the last of
// its robot ranks.
#pragma once

#include "ranking.cuh"
#include "scoring.cuh"

namespace dmpc::cuda {

DMPC_DEVICE Candidates candidates_of(const PlanParams& p, int tile) {
    const int robot = tile / p.tiles, own = tile % p.tiles;
    int group = 0;
    while (own >= p.group[group].first_tile + p.group[group].tiles) ++group;
    const Group& g = p.group[group];
    const int begin = (own - g.first_tile) * p.tile_candidates;
    const int left = g.count - begin > 0 ? g.count - begin : 0;
    return {robot, group, g.first + begin, left < p.tile_candidates ? left : p.tile_candidates,
            g.first};
}

/// The objective's networks, all members, of the set's candidates.
template <class P>
DMPC_DEVICE void predict_objective(const PlanParams& p, const Candidates& c, std::uint8_t* shared,
                                   Room<typename P::Element>& room) {
    const std::int64_t robot = std::int64_t{c.robot} * p.candidates * p.horizon;
    const Features features{p.x_states + robot * p.state_size, p.x_actions + robot * p.action_size};
    for (int member = 0; member < p.members; ++member) {
        const Network& n = p.networks[2 + member];
        const auto s = make_stream<P>(n, p.shared, shared, c.count, room);
        float* out =
            p.predictions + (std::int64_t{member} * p.robots * p.candidates * p.horizon + robot) *
                                kObjectiveOutputs;
        evaluate<P>(n, p.horizon, c, features, modulation_of(n, c.robot, 0), s, room);
        last_layer(n, s, [&](int row, int output, float value) {
            const std::int64_t step =
                std::int64_t{c.first + row / n.tokens} * p.horizon + row % n.tokens * n.patch;
            out[step * kObjectiveOutputs + output] = value;
        });
    }
}

/// Counts the blocks of a robot that are done; the last one ranks.
DMPC_DEVICE void rank_last(const PlanParams& p, int robot, std::uint8_t* shared) {
    device::fence();
    device::sync_block();
    auto* is_last = reinterpret_cast<int*>(shared);
    if (device::thread() == 0) {
        const unsigned blocks = static_cast<unsigned>(p.tiles * p.splits);
        *is_last = device::add_atomically(p.arrived + robot, 1) + 1 == blocks;
        device::fence();
    }
    device::sync_block();
    if (*is_last == 0) return;
    device::sync_block();
    rank_candidates(p, robot, reinterpret_cast<Rank*>(shared));
    if (device::thread() == 0) p.arrived[robot] = 0;
}

/// Where the blocks of a tile meet, if they are apart.
DMPC_DEVICE Meeting meeting_of(const PlanParams& p, int tile) {
    if (!p.apart) return {};
    const std::int64_t bytes = p.operand_bytes + std::int64_t{p.splits} * p.part_bytes;
    std::uint8_t* const own = p.exchange + tile * bytes;
    return {p.met + tile, 0, own, own + p.operand_bytes, p.part_bytes};
}

/// One block's part of a plan.
template <class P>
DMPC_DEVICE void plan_block(const PlanParams& p, std::uint8_t* shared) {
    const int tile = device::block() / p.splits;
    // Tiles of a cluster are of one group: its blocks meet as often, whatever they hold.
    const Place place{tile % p.sets, p.sets, device::block() % p.splits, p.splits, p.apart};
    const Candidates c = candidates_of(p, tile);
    const Group& group = p.group[c.group];
    Room<typename P::Element> room =
        make_room<P>(p.shared, shared, place, p.tile_candidates, meeting_of(p, tile));
    const Denoised actions{p.x_actions, p.actions, p.action_size, p.action_units, 0};
    const Denoised states{p.x_states, p.states, p.state_size, p.state_units, 1};
    const Stride stride = across_set(room);
    // Tokens belong to blocks stage by stage: each stage reads what any block has written.
    if ((p.stages & kSample) != 0) {
        start_sampler(p, c, actions, stride);
        sync_set<P>(room);
        denoise<P>(p, p.networks[0], c, actions, nullptr, p.proposal_rows, group.proposal_row,
                   group.proposal_rows, shared, room);
    } else {
        normalise(p, c, actions, stride);
    }
    if ((p.stages & kPredict) != 0) {
        start_sampler(p, c, states, stride);
        sync_set<P>(room);
        denoise<P>(p, p.networks[1], c, states, p.x_actions, p.dynamics_rows, group.dynamics_row,
                   group.dynamics_rows, shared, room);
    } else if ((p.stages & kScore) != 0) {
        normalise(p, c, states, stride);
    }
    sync_set<P>(room);
    if ((p.stages & kScore) == 0) return;
    if (p.learned) {
        predict_objective<P>(p, c, shared, room);
        sync_set<P>(room);
    }
    for (int i = place.split * kWarps + device::warp(); i < c.count; i += p.splits * kWarps) {
        score_candidate(p, c, c.first + i);
    }
    if ((p.stages & kRank) != 0) rank_last(p, c.robot, shared);
}

}  // namespace dmpc::cuda
