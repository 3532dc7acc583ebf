// What is kept from one plan to the next: how shapes are cut, and their programs.
#include <algorithm>
#include <stdexcept>
#include <utility>

#include "engine.hpp"
#include "launch.hpp"

namespace dmpc::cuda {
namespace {

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
    DeviceLimits limits{properties_.processors, properties_.shared_bytes,
                        properties_.clusters ? kMaxCluster : 1};
    use(device_);
    for (int i = 1; properties_.clusters && 1 << i <= kMaxCluster; ++i) {
        limits.clusters[static_cast<std::size_t>(i)] =
            clusters_at_once(product_, 1 << i, properties_.shared_bytes);
    }
    if (forced_.candidates == 0) {
        if (const auto choice = choose_plan(sizes, limits)) return *choice;
    } else if (const auto layout = fit_layout(sizes, limits.shared_bytes, forced_.candidates,
                                              forced_.cluster / forced_.sets)) {
        const Cut cut{forced_.candidates, forced_.sets, forced_.cluster / forced_.sets,
                      forced_.apart};
        const PlanChoice choice = predict(sizes, limits, cut, *layout);
        if (cut.apart && choice.waves > 1) {
            throw std::runtime_error("blocks that meet in global memory must all run at once, on " +
                                     std::to_string(limits.processors) + " multiprocessors");
        }
        return choice;
    }
    throw std::runtime_error("one candidate of this model does not fit the shared memory of a " +
                             std::string("block, ") + std::to_string(limits.shared_bytes) +
                             " bytes");
}

}  // namespace dmpc::cuda
