#include "engine.hpp"

#include <algorithm>
#include <cmath>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>

#include "dmpc/philox.hpp"
#include "engine_state.hpp"

namespace dmpc {
namespace {

// Rows of tokens that go through a network together: enough that a tile of weights, once in L1, is
// used many times; few enough that the activations between two products stay in L2. Layers whose
// weights fill L2 on their own are worth more rows, since those weights come from further away.
constexpr int kRowsPerChunk = 128;
constexpr int kRowsPerWideChunk = 256;
constexpr std::int64_t kWideLayerWeights = 512 * 1024;

int candidates_per_chunk(const ModelSpec& spec) {
    int tokens = 0;
    std::int64_t weights = 0;
    for (const StageSpec& stage : spec.stages) {
        tokens = std::max(tokens, spec.horizon / stage.patch);
        const std::int64_t attention = std::int64_t{4} * stage.heads * stage.head_size;
        weights = std::max(weights, stage.width * (attention + std::int64_t{2} * stage.mlp));
    }
    const int rows = weights > kWideLayerWeights ? kRowsPerWideChunk : kRowsPerChunk;
    return std::max(1, rows / tokens);
}

const cpu::Kernels& kernels_for(cpu::InstructionSet wanted) {
    const cpu::Kernels* kernels = cpu::select_kernels(wanted);
    if (!kernels) {
        throw std::invalid_argument("this machine lacks the instruction set that was asked for");
    }
    return *kernels;
}

// A plan of 64 candidates falls into about 16 chunks: more threads would only wait for each other.
constexpr int kMostThreadsByDefault = 16;

int thread_count(int wanted) {
    if (wanted < 0) {
        throw std::invalid_argument("threads must be 0 or more, got " + std::to_string(wanted));
    }
    if (wanted > 0) return wanted;
    const auto processors = static_cast<int>(std::thread::hardware_concurrency());
    return std::clamp(processors, 1, kMostThreadsByDefault);
}

NetworkSizes sizes_of(const ModelSpec& spec, Stage name) {
    const StageSpec& stage = spec.stage(name);
    return {.layers = stage.layers,
            .width = stage.width,
            .heads = stage.heads,
            .head_size = stage.head_size,
            .mlp = stage.mlp,
            .patch = stage.patch,
            .horizon = spec.horizon,
            .condition = static_cast<int>(spec.condition_size()),
            .noisy = spec.noisy_size(name),
            .clean = spec.clean_size(name),
            .outputs = spec.output_size(name),
            .history_tokens = stage.history_tokens};
}

std::vector<float> repeated(const std::vector<float>& values, int times) {
    std::vector<float> result;
    result.reserve(values.size() * times);
    for (int i = 0; i < times; ++i) result.insert(result.end(), values.begin(), values.end());
    return result;
}

std::vector<float> bounds(const std::vector<std::optional<double>>& values, float absent) {
    std::vector<float> result;
    for (const auto& value : values) result.push_back(value ? static_cast<float>(*value) : absent);
    return result;
}

template <class T>
void grow(AlignedBuffer<T>& buffer, std::size_t size) {
    if (buffer.size() < size) buffer.assign(size);
}

}  // namespace

int PlanRequest::candidates() const {
    int total = 0;
    for (const CandidateGroup& group : groups) total += group.count;
    return total;
}

Engine::Engine(const ModelSpec& spec, const TensorLookup& tensor, const EngineOptions& options)
    : spec_(spec),
      kernels_(&kernels_for(options.instruction_set)),
      objective_(spec.state_size, spec.action_size, spec.horizon,
                 spec.stage(Stage::objective).members, spec.discount, spec.termination_penalty),
      clock_(options.clock),
      pool_(thread_count(options.threads), options.idle, options.pin),
      chunk_capacity_(candidates_per_chunk(spec)) {
    for (const Stage stage : kStages) {
        for (int member = 0; member < spec.stage(stage).members; ++member) {
            const std::string prefix =
                std::string(name_of(stage)).append(".").append(std::to_string(member)).append(".");
            const auto lookup = [&](const std::string& name) { return tensor(prefix + name); };
            networks_.push_back(std::make_unique<Network>(sizes_of(spec, stage), lookup, *kernels_,
                                                          options.precision));
        }
    }
    if (spec.policy) {
        const auto lookup = [&](const std::string& name) { return tensor("policy." + name); };
        policy_ = std::make_unique<Policy>(spec, lookup, *kernels_);
    }
    const auto affine = [&](const std::string& name, int size, int times) {
        const float* mean = tensor("normalizer." + name + ".mean");
        const float* scale = tensor("normalizer." + name + ".scale");
        Affine result{
            repeated({mean, mean + size}, times), repeated({scale, scale + size}, times), {}};
        for (const float value : result.scale) result.inverse.push_back(1.0f / value);
        return result;
    };
    state_ = affine("state", spec.state_size, spec.horizon);
    action_ = affine("action", spec.action_size, spec.horizon);
    reward_ = affine("reward", 1, 1);
    value_ = affine("value", 1, 1);
    constexpr float infinity = std::numeric_limits<float>::infinity();
    low_ = repeated(bounds(spec.environment.action_low, -infinity), spec.horizon);
    high_ = repeated(bounds(spec.environment.action_high, infinity), spec.horizon);

    for (int i = 0; i < pool_.threads(); ++i) {
        workers_.push_back(std::make_unique<Worker>(spec, objective_, chunk_capacity_));
        for (const auto& network : networks_) {
            workers_.back()->activations.reserve(network->packed, chunk_capacity_, *kernels_);
        }
    }
    const auto rows = [&](Stage stage) {
        return static_cast<int>(spec.stage(stage).sampler->angles.size());
    };
    prepare(1, 1, 1, rows(Stage::proposal), rows(Stage::dynamics));
}

Engine::~Engine() = default;

void Engine::prepare(int robots, int candidates, int groups, int proposal_rows, int dynamics_rows,
                     bool deadlines) {
    if (deadlines) {
        // Halves of halves sum to less than the whole again, and no level has less than one row.
        proposal_rows = 2 * proposal_rows + groups * kMaxLevels;
        dynamics_rows = 2 * dynamics_rows + groups * kMaxLevels;
        groups *= kMaxLevels;
    }
    schedules_[0].reserve(groups, proposal_rows);
    schedules_[1].reserve(groups, dynamics_rows);
    networks_[0]->conditioning.reserve(robots, proposal_rows);
    networks_[1]->conditioning.reserve(robots, dynamics_rows);
    for (std::size_t i = 2; i < networks_.size(); ++i)
        networks_[i]->conditioning.reserve(robots, 1);
    const auto count = static_cast<std::size_t>(robots) * candidates;
    grow(conditions_,
         static_cast<std::size_t>(robots) * networks_[0]->packed.condition_history.depth);
    grow(plans_, count * spec_.horizon * spec_.action_size);
    grow(scores_, count);
    grow(violations_, count);
    grow(ties_, count);
    grow(levels_, count);
}

Status Engine::sample(const PlanRequest& request, float* actions) noexcept {
    Call call{.request = request, .sampling = true, .actions = actions};
    return run(call);
}

Status Engine::predict(const PlanRequest& request, const float* actions, float* states) noexcept {
    Call call{.request = request, .predicting = true, .given_actions = actions, .states = states};
    return run(call);
}

Status Engine::score(const PlanRequest& request, const float* states, const float* actions,
                     const PlanOutput& output) noexcept {
    Call call{.request = request,
              .scoring = true,
              .given_actions = actions,
              .given_states = states,
              .scores = output.scores,
              .violations = output.violations,
              .ties = output.tie_breaks};
    return run(call);
}

Status Engine::plan(const PlanRequest& request, const PlanOutput& output) noexcept {
    Call call{.request = request,
              .sampling = true,
              .predicting = true,
              .scoring = true,
              .actions = output.actions,
              .states = output.states,
              .scores = output.scores,
              .violations = output.violations,
              .ties = output.tie_breaks,
              .best = output.best,
              .run_actions = output.run_actions,
              .levels = output.levels,
              .level = output.level};
    return run(call);
}

Status Engine::run(Call& call) noexcept {
    if (busy_.test_and_set(std::memory_order_acquire)) return Status::busy;
    call.begin_ns = clock_.now();
    Status status = check(call);
    if (status == Status::ok && !plan_ahead(call)) status = Status::too_large;
    if (status == Status::ok) {
        call.engine = this;
        embed(call);
        pool_.run(
            [](void* context, int worker) {
                Call& shared = *static_cast<Call*>(context);
                shared.engine->work(shared, worker);
            },
            &call);
        if ((call.best || call.run_actions) && !call.rank(spec_)) status = Status::no_candidate;
        if (call.level) *call.level = reached(call);
    }
    busy_.clear(std::memory_order_release);
    return status;
}

Status Engine::check(const Call& call) const noexcept {
    const PlanRequest& request = call.request;
    if (request.robots < 1 || request.groups.empty()) return Status::invalid_argument;
    if (request.num_elites < 1 || request.num_elites > kMaxElites) return Status::invalid_argument;
    for (const CandidateGroup& group : request.groups) {
        if (group.count < 1) return Status::invalid_argument;
        for (const SamplerSpec* sampler : {group.proposal, group.dynamics}) {
            if (sampler && (sampler->angles.empty() ||
                            static_cast<int>(sampler->angles.size()) > kMaxSamplerSteps)) {
                return Status::invalid_argument;
            }
        }
    }
    const bool limited = call.timed() || request.levels;
    if ((limited && !call.fused()) || !(request.deadline_s >= 0)) return Status::invalid_argument;
    if (request.levels) {
        const std::ptrdiff_t count = std::ptrdiff_t{request.robots} * request.candidates();
        for (std::ptrdiff_t i = 0; i < count; ++i) {
            const int level = request.levels[i];
            if (level < kNotPlanned || level >= kMaxLevels) return Status::invalid_argument;
        }
    }
    for (int i = 0; request.robot_ids && i < request.robots; ++i) {
        const std::int64_t id = request.robot_ids[i];
        if (id < 0 || id > kMaxRobot) return Status::invalid_argument;
    }
    for (const Term& term : request.terms) {
        if (term.index < 0 || term.index >= spec_.state_size) return Status::invalid_argument;
    }
    return finite(request) ? Status::ok : Status::not_finite;
}

bool Engine::finite(const PlanRequest& request) const noexcept {
    const auto all = [](const float* values, std::ptrdiff_t count) {
        for (std::ptrdiff_t i = 0; i < count; ++i) {
            if (!std::isfinite(values[i])) return false;
        }
        return true;
    };
    const std::ptrdiff_t robots = request.robots, past = spec_.history - 1;
    const std::ptrdiff_t plan = std::ptrdiff_t{spec_.horizon} * spec_.action_size;
    for (const CandidateGroup& group : request.groups) {
        if (group.start && !all(group.start, robots * group.count * plan)) return false;
    }
    return all(request.states, robots * spec_.history * spec_.state_size) &&
           all(request.actions, robots * past * spec_.action_size) &&
           all(request.mask, robots * past) && all(request.context, robots * spec_.context);
}

/// Schedules the samplers, finds room, and cuts the groups into chunks. False where memory lacks.
bool Engine::plan_ahead(Call& call) noexcept {
    const PlanRequest& request = call.request;
    const auto steps = [&](const SamplerSpec* own, Stage stage) {
        return static_cast<int>((own ? *own : *spec_.stage(stage).sampler).angles.size());
    };
    const bool limited = call.timed() || request.levels;
    int rows[2] = {0, 0}, most = 1;
    for (const CandidateGroup& group : request.groups) {
        const int own[2] = {steps(group.proposal, Stage::proposal),
                            steps(group.dynamics, Stage::dynamics)};
        for (int i = 0; i < 2; ++i) {
            rows[i] += own[i];
            most = std::max(most, own[i]);
        }
    }
    call.levels_in_use = limited ? level_count(most) : 1;
    call.candidates = request.candidates();
    try {
        prepare(request.robots, call.candidates, static_cast<int>(request.groups.size()), rows[0],
                rows[1], limited);
    } catch (const std::bad_alloc&) {
        return false;
    }
    for (const Stage stage : {Stage::proposal, Stage::dynamics}) {
        Schedule& schedule = schedules_[static_cast<int>(stage)];
        schedule.clear();
        for (int level = 0; level < call.levels_in_use; ++level) {
            for (const CandidateGroup& group : request.groups) {
                const bool first = stage == Stage::proposal;
                schedule.add_group(first ? group.proposal : group.dynamics,
                                   *spec_.stage(stage).sampler, level);
            }
        }
    }
    objective_.set_terms(request.terms);
    if (!call.actions) call.actions = plans_.data();
    if (!call.scores) call.scores = scores_.data();
    if (!call.violations) call.violations = violations_.data();
    if (!call.ties) call.ties = ties_.data();
    if (limited && !call.levels) call.levels = levels_.data();
    if (!limited && call.levels) {
        std::fill_n(call.levels, std::ptrdiff_t{request.robots} * call.candidates, std::int8_t{0});
    }
    call.cut(chunk_capacity_, pool_.threads());
    return true;
}

Status Engine::react(const PlanRequest& request, float* actions) noexcept {
    if (!policy_) return Status::no_policy;
    if (request.robots < 1) return Status::invalid_argument;
    if (busy_.test_and_set(std::memory_order_acquire)) return Status::busy;
    const cpu::FlushDenormals flush;
    Status status = finite(request) ? Status::ok : Status::not_finite;
    try {
        grow(conditions_, static_cast<std::size_t>(request.robots) *
                              networks_[0]->packed.condition_history.depth);
        policy_->reserve(request.robots);
    } catch (const std::bad_alloc&) {
        status = Status::too_large;
    }
    if (status == Status::ok) {
        condition(request);
        const float* normalised = policy_->evaluate(conditions_.data(), request.robots);
        for (std::ptrdiff_t robot = 0; robot < request.robots; ++robot) {
            for (int i = 0; i < spec_.action_size; ++i) {
                const float value =
                    normalised[robot * policy_->stride() + i] * action_.scale[i] + action_.mean[i];
                if (!std::isfinite(value)) status = Status::no_candidate;
                actions[robot * spec_.action_size + i] = std::clamp(value, low_[i], high_[i]);
            }
        }
    }
    busy_.clear(std::memory_order_release);
    return status;
}

/// The condition vectors, normalised, and each needed network's embedding of them.
void Engine::embed(const Call& call) noexcept {
    const PlanRequest& request = call.request;
    condition(request);
    for (std::size_t i = 0; i < networks_.size(); ++i) {
        if (!call.needs(static_cast<int>(i), objective_)) continue;
        const bool denoises = i < 2;
        networks_[i]->conditioning.embed(conditions_.data(), request.robots,
                                         denoises ? schedules_[i].features() : nullptr,
                                         denoises ? schedules_[i].rows() : 1);
    }
}

void Engine::condition(const PlanRequest& request) noexcept {
    const int depth = networks_[0]->packed.condition_history.depth;
    const int past = spec_.history - 1;
    for (std::ptrdiff_t robot = 0; robot < request.robots; ++robot) {
        float* to = conditions_.data() + robot * depth;
        const float* mask = request.mask + robot * past;
        for (int h = 0; h < spec_.history; ++h) {
            const float* from = request.states + (robot * spec_.history + h) * spec_.state_size;
            const float weight = h < past ? mask[h] : 1.0f;
            for (int i = 0; i < spec_.state_size; ++i) {
                *to++ = (from[i] - state_.mean[i]) / state_.scale[i] * weight;
            }
        }
        for (int h = 0; h < past; ++h) {
            const float* from = request.actions + (robot * past + h) * spec_.action_size;
            for (int i = 0; i < spec_.action_size; ++i) {
                *to++ = (from[i] - action_.mean[i]) / action_.scale[i] * mask[h];
            }
        }
        to = std::copy_n(mask, past, to);
        std::copy_n(request.context + robot * spec_.context, spec_.context, to);
    }
}

void Engine::work(Call& call, int index) noexcept {
    // First everything that candidates share, then the candidates: one meeting between the two.
    int part = call.next_part.fetch_add(1, std::memory_order_relaxed);
    int before = 0;
    for (std::size_t i = 0; i < networks_.size(); ++i) {
        if (!call.needs(static_cast<int>(i), objective_)) continue;
        Conditioning& conditioning = networks_[i]->conditioning;
        for (; part < before + conditioning.parts();
             part = call.next_part.fetch_add(1, std::memory_order_relaxed)) {
            conditioning.modulate(part - before);
        }
        before += conditioning.parts();
    }
    pool_.meet();

    Worker& worker = *workers_[index];
    worker.elapsed = clock_.since(call.begin_ns);
    if (index == 0 && call.fused()) opening_.observe(call.request.robots, worker.elapsed);
    for (;;) {
        const int next = call.next_chunk.fetch_add(1, std::memory_order_relaxed);
        if (next >= call.chunks) return;
        advance(call, chunk_of(call, next), worker);
    }
}

Engine::Chunk Engine::chunk_of(const Call& call, int index) const noexcept {
    // Robots in turns, so that each has something before one has everything.
    const int robots = call.request.robots;
    Chunk chunk{.ordinal = index, .robot = index % robots, .group = 0, .first = 0, .count = 0};
    int rest = index / robots;
    for (const CandidateGroup& group : call.request.groups) {
        const int chunks = call.chunks_of(group.count);
        if (rest < chunks) {
            // Near-equal parts, the larger ones first.
            const int size = group.count / chunks, larger = group.count % chunks;
            chunk.in_group = rest * size + std::min(rest, larger);
            chunk.first += chunk.in_group;
            chunk.count = size + (rest < larger ? 1 : 0);
            break;
        }
        rest -= chunks;
        chunk.first += group.count;
        ++chunk.group;
    }
    return chunk;
}

}  // namespace dmpc
