// Where a request's numbers lie on the device: what is copied there, and what kernels write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine.hpp"
#include "params.hpp"

namespace dmpc::cuda {

/// Numbers of the arrays of a request.
struct RequestSizes {
    std::size_t robots, candidates;  // candidates: of all robots
    std::size_t actions, states;     // of trajectories
    std::size_t predictions, action_size;
    std::size_t tiles, exchange;  // of all robots, whose blocks are apart; bytes
};
RequestSizes sizes_of(const EngineModel& model, const EngineRequest& request,
                      const PlanChoice& choice);

/// Offsets of what kernels write: networks' conditions, trajectories, then what is copied back.
struct Workspace {
    struct OfNetwork {
        std::size_t embedded, modulations, offset;
    };
    std::vector<OfNetwork> networks;
    std::size_t x_actions, x_states, predictions, exchange;
    std::size_t results;  // from here on
    std::size_t actions, states, scores, violations, tie_breaks, best, action;
    std::size_t total;
};
Workspace lay_out(const std::vector<Network>& networks, const RequestSizes& sizes);

/// What is copied to the device, in one piece, and the offsets of its parts. Networks and groups
/// hold pointers into it, so that there is only room for them.
struct Inputs {
    std::vector<std::uint8_t> bytes;
    std::size_t proposal_rows, dynamics_rows, proposal_angles, dynamics_angles;
    std::size_t terms, seed, plan_index, robot, condition, arrived, met;
    std::vector<std::size_t> starts;  // of groups
    std::size_t networks, groups;
};
Inputs gather(const EngineRequest& request, std::size_t networks, const RequestSizes& sizes);

}  // namespace dmpc::cuda
