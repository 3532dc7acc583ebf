// What one worker does with one chunk: proposals, the states that follow, and what they are worth.
#include <algorithm>
#include <cmath>

#include "engine.hpp"
#include "engine_state.hpp"

namespace dmpc {

/// Actions of the chunk: drawn or given; leaves them clipped in the call and normalised in the
/// worker.
void Engine::propose(const Call& call, const Chunk& chunk, Worker& worker) const noexcept {
    const int size = spec_.horizon * spec_.action_size;
    const std::ptrdiff_t at = chunk.index(call.candidates) * size;
    const float* actions = call.given_actions ? call.given_actions + at : call.actions + at;
    if (call.sampling) {
        denoise(call, chunk, worker, Stage::proposal);
        for (int c = 0; c < chunk.count; ++c) {
            const float* x = worker.actions.data() + std::ptrdiff_t{c} * size;
            float* out = call.actions + at + std::ptrdiff_t{c} * size;
            for (int i = 0; i < size; ++i) {
                const float value = x[i] * action_.scale[i] + action_.mean[i];
                // Written so that what is not a number stays visible.
                const float raised = value < low_[i] ? low_[i] : value;
                out[i] = raised > high_[i] ? high_[i] : raised;
            }
        }
    }
    for (int c = 0; c < chunk.count; ++c) {
        const float* from = actions + std::ptrdiff_t{c} * size;
        float* x = worker.actions.data() + std::ptrdiff_t{c} * size;
        for (int i = 0; i < size; ++i) x[i] = (from[i] - action_.mean[i]) * action_.inverse[i];
    }
}

/// States that follow: predicted or given; leaves both units in the worker.
void Engine::follow(const Call& call, const Chunk& chunk, Worker& worker) const noexcept {
    const int size = spec_.horizon * spec_.state_size;
    const std::ptrdiff_t at = chunk.index(call.candidates) * size;
    if (call.predicting) denoise(call, chunk, worker, Stage::dynamics);
    for (int c = 0; c < chunk.count; ++c) {
        const std::ptrdiff_t offset = std::ptrdiff_t{c} * size;
        float* x = worker.states.data() + offset;
        float* environment = worker.environment_states.data() + offset;
        if (call.predicting) {
            for (int i = 0; i < size; ++i) environment[i] = x[i] * state_.scale[i] + state_.mean[i];
            if (call.states) std::copy_n(environment, size, call.states + at + offset);
        } else {
            std::copy_n(call.given_states + at + offset, size, environment);
            for (int i = 0; i < size; ++i) {
                x[i] = (environment[i] - state_.mean[i]) * state_.inverse[i];
            }
        }
    }
}

/// Leaves score, violation and tie-break of every candidate in the call.
void Engine::evaluate(const Call& call, const Chunk& chunk, Worker& worker) const noexcept {
    if (objective_.needs_learned()) predict_learned(chunk, worker);
    const std::ptrdiff_t first = chunk.index(call.candidates);
    const std::ptrdiff_t steps = spec_.horizon;
    const float* actions = call.given_actions ? call.given_actions : call.actions;
    const auto members = static_cast<std::ptrdiff_t>(networks_.size()) - 2;
    for (std::ptrdiff_t c = 0; c < chunk.count; ++c) {
        for (std::ptrdiff_t m = 0; m < members; ++m) {
            const std::ptrdiff_t at = (m * chunk_capacity_ + c) * steps;
            worker.learned[m] = {worker.rewards.data() + at, worker.logits.data() + at,
                                 worker.values[m * chunk_capacity_ + c]};
        }
        const Evaluation evaluation = objective_.evaluate(
            worker.environment_states.data() + c * steps * spec_.state_size,
            actions + (first + c) * steps * spec_.action_size, worker.learned, worker.scratch);
        call.scores[first + c] = evaluation.score;
        call.violations[first + c] = evaluation.violation;
        call.ties[first + c] = evaluation.tie_break;
    }
}

/// Every ensemble member's outputs in environment units, step by step.
void Engine::predict_learned(const Chunk& chunk, Worker& worker) const noexcept {
    for (std::size_t i = 2; i < networks_.size(); ++i) {
        const Network& network = *networks_[i];
        gather(network, chunk.count, worker);
        forward(network.packed, *kernels_, network.conditioning.modulation(chunk.robot, 0),
                network.conditioning.token_bias(chunk.robot), chunk.count, worker.activations);
        const int patch = network.packed.sizes.patch, tokens = network.packed.sizes.tokens();
        const std::ptrdiff_t stride = network.packed.final_out.columns;
        for (std::ptrdiff_t c = 0; c < chunk.count; ++c) {
            const std::ptrdiff_t slot = static_cast<std::ptrdiff_t>(i - 2) * chunk_capacity_ + c;
            float* reward = worker.rewards.data() + slot * spec_.horizon;
            float* logit = worker.logits.data() + slot * spec_.horizon;
            for (int k = 0; k < spec_.horizon; ++k) {
                const float* out = worker.activations.outputs() +
                                   (c * tokens + k / patch) * stride +
                                   k % patch * kObjectiveOutputs;
                reward[k] = out[0] * reward_.scale[0] + reward_.mean[0];
                logit[k] = out[1];
                worker.values[slot] = out[2] * value_.scale[0] + value_.mean[0];
            }
        }
    }
}

/// Draws the noisy trajectories of the chunk and takes them through the rows of their sampler.
void Engine::denoise(const Call& call, const Chunk& chunk, Worker& worker,
                     Stage stage) const noexcept {
    const auto index = static_cast<std::size_t>(stage);
    const Network& network = *networks_[index];
    const Schedule& schedule = schedules_[index];
    const CandidateGroup& group = call.request.groups[chunk.group];
    const bool proposing = stage == Stage::proposal;
    const int size = spec_.horizon * (proposing ? spec_.action_size : spec_.state_size);
    float* x = proposing ? worker.actions.data() : worker.states.data();
    const auto draw = [&](int step, float* out) {
        const auto word = static_cast<std::uint32_t>(call.request.robot_ids[chunk.robot] << 16) |
                          static_cast<std::uint32_t>(index) << 8 | static_cast<std::uint32_t>(step);
        for (int c = 0; c < chunk.count; ++c) {
            kernels_->normals(
                {.seed = call.request.seed,
                 .candidate = static_cast<std::uint32_t>(chunk.first + c),
                 .plan_index = static_cast<std::uint32_t>(call.request.plan_index[chunk.robot]),
                 .last_word = word,
                 .count = size,
                 .out = out + std::ptrdiff_t{c} * size});
        }
    };

    const int scheduled = call.schedule_group(chunk.group, chunk.level);
    const int first = schedule.first_row(scheduled), rows = schedule.row_count(scheduled);
    draw(0, x);
    if (proposing && group.start) {
        const float* start =
            group.start + (std::ptrdiff_t{chunk.robot} * group.count + chunk.in_group) * size;
        const auto cosine = static_cast<float>(std::cos(schedule.row(first).t));
        const auto sine = static_cast<float>(std::sin(schedule.row(first).t));
        for (int c = 0; c < chunk.count; ++c) {
            for (int i = 0; i < size; ++i, ++start, ++x) {
                *x = cosine * ((*start - action_.mean[i]) * action_.inverse[i]) + sine * *x;
            }
        }
        x = worker.actions.data();
    }
    const NetworkSizes& sizes = network.packed.sizes;
    for (int i = 0; i < rows; ++i) {
        const SamplerRow& row = schedule.row(first + i);
        gather(network, chunk.count, worker);
        forward(network.packed, *kernels_, network.conditioning.modulation(chunk.robot, first + i),
                network.conditioning.token_bias(chunk.robot), chunk.count, worker.activations);
        const bool fresh = row.noise != 0.0;
        if (fresh) draw(i + 1, worker.noise.data());
        kernels_->update({.rows = chunk.count * sizes.tokens(),
                          .size = sizes.patch * sizes.noisy,
                          .a = static_cast<float>(row.a),
                          .b = static_cast<float>(row.b),
                          .noise = static_cast<float>(row.noise),
                          .x = x,
                          .velocity = worker.activations.outputs(),
                          .velocity_stride = network.packed.final_out.columns,
                          .eps = fresh ? worker.noise.data() : nullptr});
    }
}

/// The network's input rows: per time step states, where it reads them, then actions.
void Engine::gather(const Network& network, int count, Worker& worker) const noexcept {
    const NetworkSizes& sizes = network.packed.sizes;
    const int state_size = sizes.noisy + sizes.clean - spec_.action_size;  // 0 for the proposal
    const int action_size = spec_.action_size;
    const float* state = worker.states.data();
    const float* action = worker.actions.data();
    float* row = worker.activations.features();
    for (int token = 0; token < count * sizes.tokens(); ++token) {
        float* to = row;
        for (int step = 0; step < sizes.patch; ++step) {
            to = std::copy_n(state, state_size, to);
            to = std::copy_n(action, action_size, to);
            state += state_size;
            action += action_size;
        }
        row += network.packed.token.depth;
        std::fill(to, row, 0.0f);
    }
}

}  // namespace dmpc
