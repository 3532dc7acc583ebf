// Which candidates a plan takes how far: by its deadline, or as a record says.
#include <algorithm>
#include <cmath>
#include <limits>

#include "engine.hpp"
#include "engine_state.hpp"

namespace dmpc {
namespace {

/// Multiplications per candidate and evaluation: what its cost is proportional to.
double evaluation_work(const NetworkSizes& sizes) {
    const double heads = static_cast<double>(sizes.heads) * sizes.head_size;
    const double token = sizes.width * (4 * heads + 2.0 * sizes.mlp) + 2 * heads * sizes.tokens();
    return token * sizes.layers * sizes.tokens();
}

}  // namespace

/// Takes a chunk, or what there is time for of it, through all stages.
void Engine::advance(Call& call, Chunk chunk, Worker& worker) noexcept {
    if (call.request.levels) return advance_as_given(call, chunk, worker);
    const double begin = call.fused() ? worker.elapsed : 0.0;
    if (call.timed()) {
        chunk.level = affordable_level(call, chunk, begin);
        mark(call, chunk);
        if (chunk.level == kNotPlanned) return;
    }
    advance_fully(call, chunk, worker);
    if (call.fused()) {
        worker.elapsed = clock_.since(call.begin_ns);
        pace_.observe(work_of(call, chunk, chunk.level), worker.elapsed - begin);
    }
}

/// Runs of candidates that have one level, as the request tells them apart.
void Engine::advance_as_given(Call& call, const Chunk& chunk, Worker& worker) noexcept {
    const std::int8_t* levels = call.request.levels + chunk.index(call.candidates);
    for (int first = 0, last; first < chunk.count; first = last) {
        for (last = first + 1; last < chunk.count && levels[last] == levels[first];) ++last;
        Chunk run = chunk;
        run.first += first;
        run.in_group += first;
        run.count = last - first;
        run.level = std::min<int>(levels[first], call.levels_in_use - 1);
        mark(call, run);
        if (run.level != kNotPlanned) advance_fully(call, run, worker);
    }
}

void Engine::advance_fully(Call& call, const Chunk& chunk, Worker& worker) noexcept {
    propose(call, chunk, worker);
    if (call.predicting || call.scoring) follow(call, chunk, worker);
    if (call.scoring) evaluate(call, chunk, worker);
}

/// The first level that should be ready in time; the last one for the first chunk of each robot,
/// which must not go without a plan.
int Engine::affordable_level(const Call& call, const Chunk& chunk, double now) const noexcept {
    // Below this one a group's samplers only repeat themselves.
    const int own = call.schedule_group(chunk.group, 0);
    const int steps = std::max(schedules_[0].row_count(own), schedules_[1].row_count(own));
    const int lowest = level_count(steps) - 1;
    const bool owed = chunk.ordinal < call.request.robots;
    // What the robots behind this one are owed is not this one's to spend.
    const int behind = owed ? call.request.robots - 1 - chunk.ordinal : 0;
    const double reserved = work_of(call, chunk, lowest) * behind / pool_.threads();
    for (int level = 0; level <= lowest; ++level) {
        const double work = work_of(call, chunk, level) + reserved;
        if (now + pace_.estimate(work) <= call.request.deadline_s) return level;
    }
    return owed ? lowest : kNotPlanned;
}

double Engine::least_seconds(int robots, int candidates) const noexcept {
    if (!pace_.seen()) return 0;
    const CandidateGroup group{.count = candidates};
    const PlanRequest request{.robots = robots, .groups = {&group, 1}};
    Call call{.request = request, .candidates = candidates};
    call.cut(chunk_capacity_, pool_.threads());
    double work = 0;
    for (const auto& network : networks_) work += evaluation_work(network->packed.sizes);
    const int rounds = (robots + pool_.threads() - 1) / pool_.threads();
    return opening_.estimate(robots) + pace_.estimate(work * call.chunk_size * rounds);
}

double Engine::work_of(const Call& call, const Chunk& chunk, int level) const noexcept {
    const int group = call.schedule_group(chunk.group, level);
    double work = 0;
    for (std::size_t i = 0; i < networks_.size(); ++i) {
        if (!call.needs(static_cast<int>(i), objective_)) continue;
        const int evaluations = i < 2 ? schedules_[i].row_count(group) : 1;
        work += evaluations * evaluation_work(networks_[i]->packed.sizes);
    }
    return work * chunk.count;
}

/// Notes the level of a chunk; of candidates that are not planned no output keeps an old value.
void Engine::mark(Call& call, const Chunk& chunk) noexcept {
    const std::ptrdiff_t first = chunk.index(call.candidates);
    std::fill_n(call.levels + first, chunk.count, static_cast<std::int8_t>(chunk.level));
    if (chunk.level != kNotPlanned) return;
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const std::ptrdiff_t count = chunk.count, steps = spec_.horizon;
    const auto fill = [&](float* values, std::ptrdiff_t size, float value) {
        if (values) std::fill_n(values + first * size, count * size, value);
    };
    fill(call.actions, steps * spec_.action_size, nan);
    fill(call.states, steps * spec_.state_size, nan);
    fill(call.scores, 1, -infinity);
    fill(call.violations, 1, infinity);
    fill(call.ties, 1, -infinity);
}

/// What the plan amounts to, once all workers are done.
Level Engine::reached(const Call& call) const noexcept {
    const int all = call.candidates;
    Level level{.candidates = all,
                .full = all,
                .proposal_steps = kMaxSamplerSteps,
                .dynamics_steps = kMaxSamplerSteps};
    for (int robot = 0; robot < call.request.robots; ++robot) {
        int planned = 0, full = 0, candidate = robot * all;
        for (int group = 0; group < static_cast<int>(call.request.groups.size()); ++group) {
            for (int i = 0; i < call.request.groups[group].count; ++i, ++candidate) {
                const int own = call.levels ? call.levels[candidate] : 0;
                if (own == kNotPlanned) continue;
                ++planned;
                full += own == 0;
                const int rows = call.schedule_group(group, own);
                level.proposal_steps =
                    std::min(level.proposal_steps, schedules_[0].row_count(rows));
                level.dynamics_steps =
                    std::min(level.dynamics_steps, schedules_[1].row_count(rows));
            }
        }
        level.candidates = std::min(level.candidates, planned);
        level.full = std::min(level.full, full);
    }
    if (level.candidates == 0) level.proposal_steps = level.dynamics_steps = 0;
    level.complete = level.full == all;
    level.missed = call.timed() && clock_.since(call.begin_ns) > call.request.deadline_s;
    return level;
}

}  // namespace dmpc
