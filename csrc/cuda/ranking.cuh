// The best candidate of a robot: smallest violation, then highest score, then highest tie-break,
// then lowest number. What is not a number ranks below everything that is one.
#pragma once

#include "device.cuh"

namespace dmpc::cuda {

/// What a candidate is ranked by, smaller is better; number -1 is no candidate.
struct Rank {
    float violation, score, tie_break;
    int number;
};

/// Negative if a comes first, positive if b, 0 if neither.
DMPC_DEVICE int compare(float a, float b) {
    const bool a_wrong = a != a, b_wrong = b != b;
    if (a_wrong || b_wrong) return static_cast<int>(a_wrong) - static_cast<int>(b_wrong);
    return a < b ? -1 : static_cast<int>(a > b);
}

DMPC_DEVICE bool better(const Rank& a, const Rank& b) {
    if (a.number < 0 || b.number < 0) return a.number >= 0;
    int order = compare(a.violation, b.violation);
    if (order == 0) order = compare(-a.score, -b.score);
    if (order == 0) order = compare(-a.tie_break, -b.tie_break);
    return order == 0 ? a.number < b.number : order < 0;
}

/// Ranks a robot's candidates by one block. shared: room for kThreads ranks.
DMPC_DEVICE void rank_candidates(const PlanParams& p, int robot, Rank* shared) {
    const std::int64_t base = std::int64_t{robot} * p.candidates;
    Rank best{0, 0, 0, -1};
    for (int i = device::thread(); i < p.candidates; i += kThreads) {
        const Rank own{device::load_fresh(p.violations + base + i),
                       device::load_fresh(p.scores + base + i),
                       device::load_fresh(p.tie_breaks + base + i), i};
        if (better(own, best)) best = own;
    }
    shared[device::thread()] = best;
    for (int half = kThreads / 2; half > 0; half /= 2) {
        device::sync_block();
        if (device::thread() < half) {
            const Rank other = shared[device::thread() + half];
            if (better(other, shared[device::thread()])) shared[device::thread()] = other;
        }
    }
    device::sync_block();
    const int chosen = shared[0].number;
    if (device::thread() == 0) p.best[robot] = chosen;
    const float* first = p.actions + (base + chosen) * p.horizon * p.action_size;
    for (int i = device::thread(); i < p.action_size; i += kThreads) {
        p.action[std::int64_t{robot} * p.action_size + i] = device::load_fresh(first + i);
    }
}

}  // namespace dmpc::cuda
