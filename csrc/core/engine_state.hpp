// What the engine keeps per network, per worker and per call.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "elites.hpp"
#include "engine.hpp"

namespace dmpc {

struct Engine::Network {
    Network(const NetworkSizes& sizes, const TensorLookup& tensor, const cpu::Kernels& kernels,
            cpu::Precision precision)
        : packed(sizes, tensor, kernels, precision), conditioning(packed, kernels) {}
    Network(const Network&) = delete;
    Network& operator=(const Network&) = delete;

    PackedNetwork packed;
    Conditioning conditioning;
};

/// Trajectories and activations of the chunk that one thread works on.
struct Engine::Worker {
    Worker(const ModelSpec& spec, const Objective& objective, int candidates) : scratch(objective) {
        const auto steps = static_cast<std::size_t>(candidates) * spec.horizon;
        const std::size_t members = spec.stage(Stage::objective).members;
        actions.assign(steps * spec.action_size);
        states.assign(steps * spec.state_size);
        environment_states.assign(steps * spec.state_size);
        noise.assign(steps * std::max(spec.action_size, spec.state_size));
        rewards.assign(members * steps);
        logits.assign(members * steps);
        values.assign(members * candidates);
        learned.resize(members);
    }

    Activations activations;
    AlignedBuffer<float> actions;             // (chunk, F, A), normalised
    AlignedBuffer<float> states;              // (chunk, F, S), normalised
    AlignedBuffer<float> environment_states;  // (chunk, F, S)
    AlignedBuffer<float> noise;               // (chunk, F, A or S)
    AlignedBuffer<float> rewards, logits;     // (members, chunk, F)
    AlignedBuffer<float> values;              // (members, chunk)
    std::vector<LearnedPrediction> learned;   // (members)
    Objective::Scratch scratch;
    double elapsed = 0;  // seconds into the call when the last chunk ended
};

/// Candidates that one thread takes through everything at once.
struct Engine::Chunk {
    int ordinal;  // place in the order of work
    int robot, group;
    int first;  // candidate number, as the random stream counts
    int count;
    int in_group = 0;  // of the first one
    int level = 0;

    /// Of the first candidate in arrays (B, N, ...).
    std::ptrdiff_t index(int candidates) const {
        return std::ptrdiff_t{robot} * candidates + first;
    }
};

/// One call: which stages run, where their inputs are and their outputs go, and who does what next.
struct Engine::Call {
    const PlanRequest& request;
    bool sampling = false, predicting = false, scoring = false;
    const float* given_actions = nullptr;
    const float* given_states = nullptr;
    float* actions = nullptr;
    float* states = nullptr;
    float* scores = nullptr;
    float* violations = nullptr;
    float* ties = nullptr;
    std::int64_t* best = nullptr;
    float* run_actions = nullptr;
    std::int8_t* levels = nullptr;  // null where every candidate is planned fully
    Level* level = nullptr;

    std::int64_t begin_ns = 0;
    int levels_in_use = 1;
    Engine* engine = nullptr;
    int candidates = 0;
    int chunk_size = 1;
    int chunks = 0;
    std::atomic<int> next_part{0}, next_chunk{0};

    bool fused() const { return sampling && predicting && scoring; }
    bool timed() const { return std::isfinite(request.deadline_s); }

    /// Where the schedules keep the rows of a group at a level.
    int schedule_group(int group, int at_level) const {
        return at_level * static_cast<int>(request.groups.size()) + group;
    }

    bool needs(int network, const Objective& objective) const {
        if (network == 0) return sampling;
        return network == 1 ? predicting : scoring && objective.needs_learned();
    }

    int chunks_of(int count) const { return (count + chunk_size - 1) / chunk_size; }

    /// Chunks as large as the workers hold, but a whole number of them for every thread.
    void cut(int capacity, int threads) {
        const int share = (request.robots * candidates + threads - 1) / threads;
        const int rounds = (share + capacity - 1) / capacity;
        chunk_size = (share + rounds - 1) / rounds;
        chunks = 0;
        for (const CandidateGroup& group : request.groups) chunks += chunks_of(group.count);
        chunks *= request.robots;
    }

    /// The best candidate of every robot and what is run. False, and no actions given, if one has
    /// none with finite actions and a score.
    bool rank(const ModelSpec& spec) const {
        const std::ptrdiff_t size = std::ptrdiff_t{spec.horizon} * spec.action_size;
        bool all_found = true;
        for (std::ptrdiff_t robot = 0; robot < request.robots; ++robot) {
            const std::ptrdiff_t at = robot * candidates;
            const Candidates own{actions + at * size, scores + at, violations + at, candidates,
                                 size};
            const std::int64_t winner =
                Objective::best(own.scores, own.violations, ties + at, candidates);
            if (best) best[robot] = winner;
            const bool found = own.usable(winner);
            if (found && run_actions) {
                elite_mean(own, winner, request.num_elites, run_actions + robot * size);
            }
            all_found = all_found && found;
        }
        return all_found;
    }
};

}  // namespace dmpc
