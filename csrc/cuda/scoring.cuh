// Scores, violations and tie-breaks of candidates, a warp each: learned and built-in terms.
//
// With gamma the discount, C_k the probability of having gone on and M members that are averaged,
//   J = sum_k gamma^k C_k (terms at k) + gamma^F C_F weight V
#pragma once

#include <cmath>

#include "sampler.cuh"

namespace dmpc::cuda {

/// A running log of a sum of exponentials.
struct LogSum {
    float top = -INFINITY, total = 0;

    DMPC_DEVICE void add(float exponent) {
        if (exponent == -INFINITY) return;
        const float higher = fmaxf(top, exponent);
        total = total * std::exp(top - higher) + std::exp(exponent - higher);
        top = higher;
    }
    /// Of all lanes, in all lanes.
    DMPC_DEVICE float of_warp() const {
        float highest = top;
        for (int mask = kLanes / 2; mask > 0; mask /= 2) {
            highest = fmaxf(highest, device::shuffle_xor(highest, mask));
        }
        const float own = top == -INFINITY ? 0.0f : total * std::exp(top - highest);
        return highest + std::log(sum_of_warp(own));
    }
};

DMPC_DEVICE float log_sigmoid(float x) {
    return fminf(x, 0.0f) - std::log1p(std::exp(-std::fabs(x)));
}

/// What one member's network says of one step, in environment units.
struct Prediction {
    float reward = 0, log_continue = 0, log_reached = 0;
};

/// What a term gives at one step, without its weight; nothing for the value and for bounds.
DMPC_DEVICE float term_rate(const float* term, float state, float effort, const Prediction& own) {
    const float apart = state - term[3];
    switch (static_cast<TermKind>(static_cast<int>(term[0]))) {
        case TermKind::reward: return own.reward;
        case TermKind::alive: return term[3] * std::expm1(own.log_continue);
        case TermKind::gaussian: return std::exp(-(apart * apart) / term[4]);
        case TermKind::quadratic: return -(apart * apart);
        case TermKind::speed: return -std::fabs(apart);
        case TermKind::action: return -effort;
        default: return 0.0f;
    }
}

/// What a candidate is ranked by, as far as one lane knows it.
struct Tally {
    float score = 0, violation = 0;
    LogSum gained, lost;
    bool gains = false, loses = false;
};

DMPC_DEVICE void add_step(const PlanParams& p, int step, const float* states, const float* actions,
                          const Prediction& own, bool first_member, Tally& tally) {
    float effort = 0, rates = 0;
    for (int i = 0; i < p.action_size; ++i) {
        const float action = actions[step * p.action_size + i];
        effort += action * action;
    }
    for (int number = 0; number < p.terms; ++number) {
        const float* term = p.term + number * kTermColumns;
        const auto kind = static_cast<TermKind>(static_cast<int>(term[0]));
        const float state = states[step * p.state_size + static_cast<int>(term[1])];
        rates += term[2] * term_rate(term, state, effort, own);
        if (kind == TermKind::bound && first_member) {
            tally.violation += fmaxf(term[3] - state, 0.0f) + fmaxf(state - term[4], 0.0f);
        }
        if (kind == TermKind::gaussian && term[2] != 0) {
            const float apart = state - term[3];
            LogSum& sum = term[2] > 0 ? tally.gained : tally.lost;
            sum.add(-(apart * apart) / term[4] + own.log_reached + p.log_discounts[step] + term[5]);
        }
    }
    tally.score += p.discounts[step] * std::exp(own.log_reached) * rates;
}

/// One member's part, lanes taking steps in turns. predictions (F, 3), or null without networks.
DMPC_DEVICE void add_member(const PlanParams& p, const float* states, const float* actions,
                            const float* predictions, bool first_member, Tally& tally) {
    float reached = 0;  // log of the probability of reaching the next 32 steps
    for (int base = 0; base < p.horizon; base += kLanes) {
        const int step = base + device::lane();
        const bool inside = step < p.horizon;
        Prediction own;
        if (predictions != nullptr) {
            if (inside) {
                own.reward = predictions[step * kObjectiveOutputs] * p.reward_scale + p.reward_mean;
                own.log_continue = log_sigmoid(predictions[step * kObjectiveOutputs + 1]);
            }
            float upto = own.log_continue;
            for (int distance = 1; distance < kLanes; distance *= 2) {
                const float below = device::shuffle_up(upto, distance);
                if (device::lane() >= distance) upto += below;
            }
            float before = device::shuffle_up(upto, 1);
            if (device::lane() == 0) before = 0;
            own.log_reached = reached + before;
            reached += device::shuffle_from(upto, kLanes - 1);
        }
        if (inside) add_step(p, step, states, actions, own, first_member, tally);
    }
    if (predictions == nullptr || device::lane() != 0) return;
    const float value =
        predictions[(p.horizon - 1) * kObjectiveOutputs + 2] * p.value_scale + p.value_mean;
    for (int number = 0; number < p.terms; ++number) {
        const float* term = p.term + number * kTermColumns;
        if (static_cast<TermKind>(static_cast<int>(term[0])) == TermKind::value) {
            tally.score += p.discounts[p.horizon] * std::exp(reached) * term[2] * value;
        }
    }
}

/// Scores one candidate by a warp.
DMPC_DEVICE void score_candidate(const PlanParams& p, const Candidates& c, int candidate) {
    const std::int64_t number = std::int64_t{c.robot} * p.candidates + candidate;
    const float* states = p.states + trajectory(p, c, candidate, p.state_size);
    const float* actions = p.actions + trajectory(p, c, candidate, p.action_size);
    const std::int64_t member_size =
        std::int64_t{p.robots} * p.candidates * p.horizon * kObjectiveOutputs;
    const int members = p.learned ? p.members : 1;
    Tally tally;
    for (int member = 0; member < members; ++member) {
        const float* predictions = p.learned ? p.predictions + member * member_size +
                                                   number * p.horizon * kObjectiveOutputs
                                             : nullptr;
        add_member(p, states, actions, predictions, member == 0, tally);
    }
    for (int i = 0; i < p.terms; ++i) {
        const float* term = p.term + i * kTermColumns;
        const bool gaussian =
            static_cast<TermKind>(static_cast<int>(term[0])) == TermKind::gaussian;
        tally.gains = tally.gains || (gaussian && term[2] > 0);
        tally.loses = tally.loses || (gaussian && term[2] < 0);
    }
    const float score = sum_of_warp(tally.score), violation = sum_of_warp(tally.violation);
    const float log_members = std::log(static_cast<float>(members));
    const float gained = tally.gained.of_warp(), lost = tally.lost.of_warp();
    if (device::lane() != 0) return;
    p.scores[number] = score / static_cast<float>(members);
    p.violations[number] = violation;
    p.tie_breaks[number] =
        (tally.gains ? gained - log_members : 0.0f) - (tally.loses ? lost - log_members : 0.0f);
}

}  // namespace dmpc::cuda
