#include "plan_memory.hpp"

#include <span>

#include "arena.hpp"
#include "sizes.hpp"

namespace dmpc::cuda {
namespace {

/// Rows and angles of a sampler of all groups, one after another.
struct Rows {
    std::vector<SamplerRow> rows;
    std::vector<float> angles;
};

Rows rows_of(const EngineRequest& request, SamplerModel GroupModel::* stage) {
    Rows all;
    for (const GroupModel& group : request.groups) {
        const SamplerModel& own = group.*stage;
        all.rows.insert(all.rows.end(), own.rows.begin(), own.rows.end());
        all.angles.insert(all.angles.end(), own.angles.begin(), own.angles.end());
    }
    return all;
}

}  // namespace

RequestSizes sizes_of(const EngineModel& model, const EngineRequest& request,
                      const PlanChoice& choice) {
    std::size_t candidates = 0;
    for (const GroupModel& group : request.groups) {
        candidates += static_cast<std::size_t>(group.count);
    }
    RequestSizes sizes{};
    sizes.robots = static_cast<std::size_t>(request.robots);
    sizes.candidates = sizes.robots * candidates;
    const std::size_t steps = sizes.candidates * static_cast<std::size_t>(model.horizon);
    sizes.action_size = static_cast<std::size_t>(model.action_size);
    sizes.actions = steps * sizes.action_size;
    sizes.states = steps * static_cast<std::size_t>(model.state_size);
    sizes.predictions = (model.networks.size() - 2) * steps * kObjectiveOutputs;
    if (choice.cut.apart) {
        const SharedLayout& shared = choice.shared;
        const auto operand = static_cast<std::size_t>(shared.part - shared.operand);
        const auto part = static_cast<std::size_t>(shared.work - shared.part);
        sizes.tiles = sizes.robots * static_cast<std::size_t>(choice.tiles);
        sizes.exchange =
            sizes.tiles * (operand + static_cast<std::size_t>(choice.cut.splits) * part);
    }
    return sizes;
}

Workspace lay_out(const std::vector<Network>& networks, const RequestSizes& sizes) {
    Layout room;
    Workspace w{};
    for (const Network& n : networks) {
        const std::size_t vectors = sizes.robots * static_cast<std::size_t>(n.rows);
        const auto width = static_cast<std::size_t>(n.width);
        Workspace::OfNetwork own{};
        own.embedded = room.take<float>(vectors * width);
        own.modulations = room.take<float>(
            vectors * static_cast<std::size_t>(modulation_size(n.layers, n.width)));
        own.offset = room.take<float>(sizes.robots * width);
        w.networks.push_back(own);
    }
    w.x_actions = room.take<float>(sizes.actions);
    w.x_states = room.take<float>(sizes.states);
    w.predictions = room.take<float>(sizes.predictions);
    w.exchange = room.take<std::uint8_t>(sizes.exchange);
    w.results = room.total();
    w.actions = room.take<float>(sizes.actions);
    w.states = room.take<float>(sizes.states);
    w.scores = room.take<float>(sizes.candidates);
    w.violations = room.take<float>(sizes.candidates);
    w.tie_breaks = room.take<float>(sizes.candidates);
    w.best = room.take<std::int64_t>(sizes.robots);
    w.action = room.take<float>(sizes.robots * sizes.action_size);
    w.total = room.total();
    return w;
}

Inputs gather(const EngineRequest& r, std::size_t networks, const RequestSizes& sizes) {
    const Rows proposal = rows_of(r, &GroupModel::proposal);
    const Rows dynamics = rows_of(r, &GroupModel::dynamics);
    Inputs in{};
    in.proposal_rows = append(in.bytes, proposal.rows);
    in.dynamics_rows = append(in.bytes, dynamics.rows);
    in.proposal_angles = append(in.bytes, proposal.angles);
    in.dynamics_angles = append(in.bytes, dynamics.angles);
    in.terms = append(in.bytes, r.terms);
    in.seed = append(in.bytes, std::span<const std::uint64_t>(&r.seed, 1));
    in.plan_index = append(in.bytes, r.plan_index);
    in.robot = append(in.bytes, r.robot);
    in.condition = append(in.bytes, r.condition);
    in.arrived = append(in.bytes, std::vector<unsigned>(sizes.robots, 0));
    in.met = append(in.bytes, std::vector<unsigned>(sizes.tiles, 0));
    for (const GroupModel& group : r.groups) in.starts.push_back(append(in.bytes, group.start));
    in.networks = append(in.bytes, std::vector<Network>(networks));
    in.groups = append(in.bytes, std::vector<Group>(r.groups.size()));
    return in;
}

}  // namespace dmpc::cuda
