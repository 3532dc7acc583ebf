// Run-time objectives: the terms that a user writes down. Environment units; s_k is the state after
// action a_k. With the model's discount gamma,
//
//     J = sum_k gamma^k C_k (sum of the per-step terms at k) + gamma^F C_F weight V
//
// C_k is the learned probability of having gone on where the list has a learned term, otherwise 1.
#pragma once

#include <limits>

namespace dmpc {

enum class TermKind {
    learned_reward,    // weight r_k
    learned_value,     // weight gamma^F C_F V
    alive,             // -weight penalty (1 - c_k)
    gaussian_target,   // weight exp(-(s_k[index] - target)^2 / (2 variance))
    quadratic_target,  // -weight (s_k[index] - target)^2
    speed,             // -weight |s_k[index] - target|
    action_cost,       // -weight sum_i a_k[i]^2
    state_bound,       // constraint low <= s_k[index] <= high, ranked before scores
};

/// One term; the fields that its kind does not name are ignored.
struct Term {
    TermKind kind = TermKind::learned_reward;
    double weight = 1.0;
    int index = 0;  // of the state
    double target = 0.0;
    double variance = 1.0;
    double low = -std::numeric_limits<double>::infinity();
    double high = std::numeric_limits<double>::infinity();
};

}  // namespace dmpc
