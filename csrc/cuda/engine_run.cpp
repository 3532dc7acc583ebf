// One plan: a copy to the device, three launches, a copy back, as a graph.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include "arena.hpp"
#include "engine.hpp"
#include "launch.hpp"
#include "plan_memory.hpp"

namespace dmpc::cuda {
namespace {

/// `place` bytes from `base` on, as an array.
template <class T>
T* array(std::uint8_t* base, std::size_t place) {
    return reinterpret_cast<T*>(base + place);
}

int rows_of(const EngineRequest& request, SamplerModel GroupModel::* stage) {
    return std::accumulate(request.groups.begin(), request.groups.end(), 0,
                           [&](int sum, const GroupModel& group) {
                               return sum + static_cast<int>((group.*stage).rows.size());
                           });
}

std::vector<Group> groups_of(const EngineRequest& request, const Cut& cut, const Inputs& inputs,
                             std::uint8_t* in) {
    std::vector<Group> groups;
    Group next{};
    for (std::size_t i = 0; i < request.groups.size(); ++i) {
        const GroupModel& group = request.groups[i];
        next.count = group.count;
        next.tiles = tiles_of(group.count, cut);
        next.proposal_rows = static_cast<int>(group.proposal.rows.size());
        next.dynamics_rows = static_cast<int>(group.dynamics.rows.size());
        next.start_cos = static_cast<float>(std::cos(group.proposal.first_angle));
        next.start_sin = static_cast<float>(std::sin(group.proposal.first_angle));
        next.start = group.start.empty() ? nullptr : array<float>(in, inputs.starts[i]);
        groups.push_back(next);
        next.first += group.count;
        next.first_tile += next.tiles;
        next.proposal_row += next.proposal_rows;
        next.dynamics_row += next.dynamics_rows;
    }
    return groups;
}

/// A request's pointers: into its inputs and its workspace.
void point(PlanParams& p, const Inputs& inputs, std::uint8_t* in, const Workspace& work,
           std::uint8_t* space) {
    p.networks = array<Network>(in, inputs.networks);
    p.group = array<Group>(in, inputs.groups);
    p.proposal_rows = array<SamplerRow>(in, inputs.proposal_rows);
    p.dynamics_rows = array<SamplerRow>(in, inputs.dynamics_rows);
    p.term = array<float>(in, inputs.terms);
    p.seed = array<std::uint64_t>(in, inputs.seed);
    p.plan_index = array<std::uint32_t>(in, inputs.plan_index);
    p.robot = array<std::uint32_t>(in, inputs.robot);
    p.condition = array<float>(in, inputs.condition);
    p.arrived = array<unsigned>(in, inputs.arrived);
    p.met = array<unsigned>(in, inputs.met);
    p.exchange = array<std::uint8_t>(space, work.exchange);
    p.x_actions = array<float>(space, work.x_actions);
    p.x_states = array<float>(space, work.x_states);
    p.predictions = array<float>(space, work.predictions);
    p.actions = array<float>(space, work.actions);
    p.states = array<float>(space, work.states);
    p.scores = array<float>(space, work.scores);
    p.violations = array<float>(space, work.violations);
    p.tie_breaks = array<float>(space, work.tie_breaks);
    p.best = array<std::int64_t>(space, work.best);
    p.action = array<float>(space, work.action);
}

EngineResult read(const std::uint8_t* back, const Workspace& work, const RequestSizes& sizes) {
    const auto get = [&]<class T>(std::vector<T>& to, std::size_t place, std::size_t count) {
        to.resize(count);
        std::memcpy(to.data(), back + (place - work.results), count * sizeof(T));
    };
    EngineResult result;
    get(result.actions, work.actions, sizes.actions);
    get(result.states, work.states, sizes.states);
    get(result.scores, work.scores, sizes.candidates);
    get(result.violations, work.violations, sizes.candidates);
    get(result.tie_breaks, work.tie_breaks, sizes.candidates);
    get(result.best, work.best, sizes.robots);
    get(result.action, work.action, sizes.robots * sizes.action_size);
    return result;
}

}  // namespace

/// What holds for all requests of the model, and the sizes of this one.
PlanParams Engine::params_of(const EngineRequest& r, const PlanChoice& choice,
                             const std::uint8_t* weights) const {
    PlanParams p{};
    p.robots = r.robots, p.horizon = model_.horizon;
    p.state_size = model_.state_size, p.action_size = model_.action_size;
    for (const GroupModel& group : r.groups) p.candidates += group.count;
    p.groups = static_cast<int>(r.groups.size()), p.tiles = choice.tiles;
    p.tile_candidates = choice.cut.candidates;
    p.sets = choice.cut.sets, p.splits = choice.cut.splits;
    p.apart = choice.cut.apart;
    p.operand_bytes = choice.shared.part - choice.shared.operand;
    p.part_bytes = choice.shared.work - choice.shared.part;
    p.members = static_cast<int>(model_.networks.size()) - 2;
    p.terms = static_cast<int>(r.terms.size()) / kTermColumns;
    p.learned = r.learned, p.stages = r.stages;
    p.reward_mean = model_.reward_mean, p.reward_scale = model_.reward_scale;
    p.value_mean = model_.value_mean, p.value_scale = model_.value_scale;
    p.shared = choice.shared;
    const auto* units = reinterpret_cast<const float*>(weights + units_);
    const float* state_units = units + 4 * model_.action_size;
    p.action_units = {units, units + model_.action_size, units + 2 * model_.action_size,
                      units + 3 * model_.action_size};
    p.state_units = {state_units, state_units + model_.state_size,
                     state_units + 2 * model_.state_size, state_units + 3 * model_.state_size};
    p.discounts = reinterpret_cast<const float*>(weights + discounts_);
    p.log_discounts = p.discounts + model_.horizon + 1;
    return p;
}

EngineResult Engine::run(const EngineRequest& r) {
    use(device_);
    const PlanChoice choice = choose(r);
    Program& program = program_of(r);
    const std::uint8_t* weights = weights_.at_least(0);

    std::vector<Network> networks;
    int max_width = 0;
    for (std::size_t i = 0; i < model_.networks.size(); ++i) {
        Network n = network_of(i, weights);
        n.rows = i == 0   ? rows_of(r, &GroupModel::proposal)
                 : i == 1 ? rows_of(r, &GroupModel::dynamics)
                          : 1;
        max_width = std::max(max_width, n.width);
        networks.push_back(n);
    }
    const RequestSizes sizes = sizes_of(model_, r, choice);
    const Workspace work = lay_out(networks, sizes);
    Inputs inputs = gather(r, networks.size(), sizes);
    std::uint8_t* const space = program.workspace.at_least(work.total);
    std::uint8_t* const in = program.inputs.at_least(inputs.bytes.size());

    // Pointers into memory are known only now that it is there.
    for (std::size_t i = 0; i < networks.size(); ++i) {
        Network& n = networks[i];
        n.angles = i == 0   ? array<float>(in, inputs.proposal_angles)
                   : i == 1 ? array<float>(in, inputs.dynamics_angles)
                            : nullptr;
        n.embedded = array<float>(space, work.networks[i].embedded);
        n.modulations = array<float>(space, work.networks[i].modulations);
        n.offset = array<float>(space, work.networks[i].offset);
    }
    const std::vector<Group> groups = groups_of(r, choice.cut, inputs, in);
    std::memcpy(inputs.bytes.data() + inputs.networks, networks.data(),
                networks.size() * sizeof(Network));
    std::memcpy(inputs.bytes.data() + inputs.groups, groups.data(), groups.size() * sizeof(Group));
    PlanParams p = params_of(r, choice, weights);
    point(p, inputs, in, work, space);

    // Given trajectories go to where kernels would write them.
    const std::size_t input_bytes = inputs.bytes.size(), result_bytes = work.total - work.results;
    const std::size_t given_actions = append(inputs.bytes, r.actions);
    const std::size_t given_states = append(inputs.bytes, r.states);
    std::uint8_t* const given = program.given.at_least(inputs.bytes.size());
    std::uint8_t* const back = program.results.at_least(result_bytes);
    std::memcpy(given, inputs.bytes.data(), inputs.bytes.size());
    program.run(own_stream_, stream_, [&] {
        copy_to_device(in, given, input_bytes, own_stream_);
        if (!r.actions.empty()) {
            copy_to_device(p.actions, given + given_actions, r.actions.size() * 4, own_stream_);
        }
        if (!r.states.empty()) {
            copy_to_device(p.states, given + given_states, r.states.size() * 4, own_stream_);
        }
        check(launch_condition(p, max_width, own_stream_), "launch of the conditions");
        check(launch_plan(p, product_, own_stream_), "launch of the plan");
        copy_to_host(back, space + work.results, result_bytes, own_stream_);
    });
    wait_for(stream_);
    return read(back, work, sizes);
}

}  // namespace dmpc::cuda
