// One plan: a copy to the device, three launches, a copy back, as a graph.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "arena.hpp"
#include "engine.hpp"
#include "launch.hpp"

namespace dmpc::cuda {
namespace {

/// Rows and angles of all groups, one after another.
struct Rows {
    std::vector<SamplerRow> rows;
    std::vector<float> angles;
};

void add_rows(const SamplerModel& sampler, Rows& to) {
    to.rows.insert(to.rows.end(), sampler.rows.begin(), sampler.rows.end());
    to.angles.insert(to.angles.end(), sampler.angles.begin(), sampler.angles.end());
}

int count_of(const EngineRequest& request) {
    int count = 0;
    for (const GroupModel& group : request.groups) count += group.count;
    return count;
}

/// All that the copies and launches of a plan depend on but for the contents of what is copied.
std::vector<int> shape_of(const EngineRequest& r) {
    std::vector<int> key{static_cast<int>(r.stages), r.robots,
                         r.learned ? 1 : 0,          static_cast<int>(r.terms.size()),
                         r.actions.empty() ? 0 : 1,  r.states.empty() ? 0 : 1};
    for (const GroupModel& group : r.groups) {
        key.insert(key.end(),
                   {group.count, static_cast<int>(group.proposal.rows.size()),
                    static_cast<int>(group.dynamics.rows.size()), group.start.empty() ? 0 : 1});
    }
    return key;
}

}  // namespace

Program& Engine::program_of(const EngineRequest& request) {
    const std::vector<int> key = shape_of(request);
    if (!programs_.contains(key) && programs_.size() >= kMaxPrograms) {
        // Nothing of it is under way: a run ends with its results.
        programs_.erase(std::min_element(programs_.begin(), programs_.end(),
                                         [](const auto& one, const auto& other) {
                                             return one.second.last_used < other.second.last_used;
                                         }));
    }
    Program& program = programs_[key];
    program.last_used = ++runs_;
    return program;
}

PlanChoice Engine::choose(const EngineRequest& request) {
    std::vector<int> key{request.robots};
    for (const GroupModel& group : request.groups) {
        key.push_back(group.count);
        key.push_back(static_cast<int>(group.proposal.rows.size()));
        key.push_back(static_cast<int>(group.dynamics.rows.size()));
    }
    const auto known = choices_.find(key);
    if (known != choices_.end()) return known->second;
    return choices_.emplace(std::move(key), choose_anew(request)).first->second;
}

PlanChoice Engine::choose_anew(const EngineRequest& request) const {
    PlanSizes sizes{{}, {}, request.robots, product_};
    int proposal = 0, dynamics = 0;
    for (const GroupModel& group : request.groups) {
        sizes.groups.push_back(group.count);
        proposal = std::max(proposal, static_cast<int>(group.proposal.rows.size()));
        dynamics = std::max(dynamics, static_cast<int>(group.dynamics.rows.size()));
    }
    for (std::size_t i = 0; i < model_.networks.size(); ++i) {
        const NetworkModel& n = model_.networks[i];
        const LayerShape layer{n.width, round_up(n.width, kTile), n.heads,
                               round_up(n.head_size, kTile), round_up(n.mlp, kTile)};
        const int evaluations = i == 0 ? proposal : i == 1 ? dynamics : 1;
        sizes.networks.push_back({layer, n.layers, model_.horizon / n.patch, evaluations});
    }
    const DeviceLimits limits{properties_.processors, properties_.shared_bytes,
                              properties_.clusters ? kMaxCluster : 1};
    if (forced_.candidates == 0) {
        if (const auto choice = choose_plan(sizes, limits)) return *choice;
    } else if (const auto layout =
                   fit_layout(sizes, limits.shared_bytes, forced_.candidates, forced_.cluster)) {
        return predict(sizes, limits, forced_.candidates, forced_.cluster, *layout);
    }
    throw std::runtime_error("one candidate of this model does not fit the shared memory of a " +
                             std::string("block, ") + std::to_string(limits.shared_bytes) +
                             " bytes");
}

EngineResult Engine::run(const EngineRequest& r) {
    use(device_);
    const PlanChoice choice = choose(r);
    Program& program = program_of(r);
    const int total = count_of(r);
    const auto robots = static_cast<std::size_t>(r.robots);
    const std::size_t candidates = robots * static_cast<std::size_t>(total);
    const std::size_t steps = candidates * static_cast<std::size_t>(model_.horizon);
    const std::size_t all_actions = steps * static_cast<std::size_t>(model_.action_size);
    const std::size_t all_states = steps * static_cast<std::size_t>(model_.state_size);
    const std::size_t members = model_.networks.size() - 2;

    // Workspace: networks' conditions, trajectories, then what is copied back.
    Layout room;
    std::vector<Network> networks;
    Rows proposal, dynamics;
    for (const GroupModel& group : r.groups) {
        add_rows(group.proposal, proposal);
        add_rows(group.dynamics, dynamics);
    }
    std::vector<std::size_t> places;
    const std::uint8_t* weights = weights_.at_least(0);
    int max_width = 0;
    for (std::size_t i = 0; i < model_.networks.size(); ++i) {
        Network n = network_of(i, weights);
        n.rows = static_cast<int>(i == 0   ? proposal.rows.size()
                                  : i == 1 ? dynamics.rows.size()
                                           : 1);
        const std::size_t vectors = robots * static_cast<std::size_t>(n.rows);
        const auto width = static_cast<std::size_t>(n.width);
        places.push_back(room.take<float>(vectors * width));
        places.push_back(room.take<float>(
            vectors * static_cast<std::size_t>(modulation_size(n.layers, n.width))));
        places.push_back(room.take<float>(robots * width));
        max_width = std::max(max_width, n.width);
        networks.push_back(n);
    }
    const std::size_t x_actions = room.take<float>(all_actions);
    const std::size_t x_states = room.take<float>(all_states);
    const std::size_t predictions = room.take<float>(members * steps * kObjectiveOutputs);
    const std::size_t results = room.total();
    const std::size_t actions = room.take<float>(all_actions);
    const std::size_t states = room.take<float>(all_states);
    const std::size_t scores = room.take<float>(candidates);
    const std::size_t violations = room.take<float>(candidates);
    const std::size_t tie_breaks = room.take<float>(candidates);
    const std::size_t best = room.take<std::int64_t>(robots);
    const std::size_t action =
        room.take<float>(robots * static_cast<std::size_t>(model_.action_size));
    std::uint8_t* const space = program.workspace.at_least(room.total());

    // Inputs, in one copy. Pointers into them are known only once their memory is.
    std::vector<std::uint8_t> bytes;
    const std::size_t proposal_rows = append(bytes, proposal.rows);
    const std::size_t dynamics_rows = append(bytes, dynamics.rows);
    const std::size_t proposal_angles = append(bytes, proposal.angles);
    const std::size_t dynamics_angles = append(bytes, dynamics.angles);
    const std::size_t terms = append(bytes, r.terms);
    const std::size_t seed = append(bytes, std::span<const std::uint64_t>(&r.seed, 1));
    const std::size_t plan_index = append(bytes, r.plan_index);
    const std::size_t robot = append(bytes, r.robot);
    const std::size_t condition = append(bytes, r.condition);
    const std::size_t arrived = append(bytes, std::vector<unsigned>(robots, 0));
    std::vector<std::size_t> starts;
    for (const GroupModel& group : r.groups) starts.push_back(append(bytes, group.start));
    const std::size_t network_place = append(bytes, networks);
    const std::size_t group_place = append(bytes, std::vector<Group>(r.groups.size()));
    std::uint8_t* const in = program.inputs.at_least(bytes.size());
    const auto input = [&](std::size_t place) { return reinterpret_cast<float*>(in + place); };
    const auto output = [&](std::size_t place) { return reinterpret_cast<float*>(space + place); };

    for (std::size_t i = 0; i < networks.size(); ++i) {
        Network& n = networks[i];
        n.angles = i == 0 ? input(proposal_angles) : i == 1 ? input(dynamics_angles) : nullptr;
        n.embedded = output(places[3 * i]);
        n.modulations = output(places[3 * i + 1]);
        n.offset = output(places[3 * i + 2]);
    }
    std::memcpy(bytes.data() + network_place, networks.data(), networks.size() * sizeof(Network));
    std::vector<Group> groups;
    Group next{};
    for (std::size_t i = 0; i < r.groups.size(); ++i) {
        const GroupModel& group = r.groups[i];
        next.count = group.count;
        next.tiles = ceil_divide(group.count, choice.candidates);
        next.proposal_rows = static_cast<int>(group.proposal.rows.size());
        next.dynamics_rows = static_cast<int>(group.dynamics.rows.size());
        next.start_cos = static_cast<float>(std::cos(group.proposal.first_angle));
        next.start_sin = static_cast<float>(std::sin(group.proposal.first_angle));
        next.start = group.start.empty() ? nullptr : input(starts[i]);
        groups.push_back(next);
        next.first += group.count;
        next.first_tile += next.tiles;
        next.proposal_row += next.proposal_rows;
        next.dynamics_row += next.dynamics_rows;
    }
    std::memcpy(bytes.data() + group_place, groups.data(), groups.size() * sizeof(Group));

    PlanParams p{};
    p.robots = r.robots, p.candidates = total, p.horizon = model_.horizon;
    p.state_size = model_.state_size, p.action_size = model_.action_size;
    p.groups = static_cast<int>(groups.size()), p.tiles = choice.tiles;
    p.tile_candidates = choice.candidates, p.cluster = choice.cluster;
    p.members = static_cast<int>(members);
    p.terms = static_cast<int>(r.terms.size()) / kTermColumns;
    p.learned = r.learned, p.stages = r.stages;
    p.reward_mean = model_.reward_mean, p.reward_scale = model_.reward_scale;
    p.value_mean = model_.value_mean, p.value_scale = model_.value_scale;
    p.shared = choice.shared;
    p.networks = reinterpret_cast<const Network*>(in + network_place);
    p.group = reinterpret_cast<const Group*>(in + group_place);
    p.proposal_rows = reinterpret_cast<const SamplerRow*>(in + proposal_rows);
    p.dynamics_rows = reinterpret_cast<const SamplerRow*>(in + dynamics_rows);
    const auto* units = reinterpret_cast<const float*>(weights + units_);
    const float* state_units = units + 4 * model_.action_size;
    p.action_units = {units, units + model_.action_size, units + 2 * model_.action_size,
                      units + 3 * model_.action_size};
    p.state_units = {state_units, state_units + model_.state_size,
                     state_units + 2 * model_.state_size, state_units + 3 * model_.state_size};
    p.discounts = reinterpret_cast<const float*>(weights + discounts_);
    p.log_discounts = p.discounts + model_.horizon + 1;
    p.term = input(terms);
    p.seed = reinterpret_cast<const std::uint64_t*>(in + seed);
    p.plan_index = reinterpret_cast<const std::uint32_t*>(in + plan_index);
    p.robot = reinterpret_cast<const std::uint32_t*>(in + robot);
    p.condition = input(condition);
    p.x_actions = output(x_actions), p.x_states = output(x_states);
    p.predictions = output(predictions);
    p.actions = output(actions), p.states = output(states), p.scores = output(scores);
    p.violations = output(violations), p.tie_breaks = output(tie_breaks);
    p.best = reinterpret_cast<std::int64_t*>(space + best);
    p.action = output(action);
    p.arrived = reinterpret_cast<unsigned*>(in + arrived);

    const std::size_t input_bytes = bytes.size(), result_bytes = room.total() - results;
    const std::size_t given_actions = append(bytes, r.actions);
    const std::size_t given_states = append(bytes, r.states);
    std::uint8_t* const given = program.given.at_least(bytes.size());
    std::uint8_t* const back = program.results.at_least(result_bytes);
    std::memcpy(given, bytes.data(), bytes.size());
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
        copy_to_host(back, space + results, result_bytes, own_stream_);
    });
    wait_for(stream_);

    const auto read = [&]<class T>(std::vector<T>& to, std::size_t place, std::size_t count) {
        to.resize(count);
        std::memcpy(to.data(), back + (place - results), count * sizeof(T));
    };
    EngineResult result;
    read(result.actions, actions, all_actions);
    read(result.states, states, all_states);
    read(result.scores, scores, candidates);
    read(result.violations, violations, candidates);
    read(result.tie_breaks, tie_breaks, candidates);
    read(result.best, best, robots);
    read(result.action, action, robots * static_cast<std::size_t>(model_.action_size));
    return result;
}

}  // namespace dmpc::cuda
