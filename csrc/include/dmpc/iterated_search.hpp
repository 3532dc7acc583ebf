// How a plan goes on after its first candidates: rounds of others near the best ones.
#pragma once

#include <optional>

namespace dmpc {

/// Iterated sample-score-rank: the best candidates are re-noised a little, denoised and predicted,
/// and all are ranked together. The same as `dmpc_fast.IteratedSearch`, for the same models: not
/// for students that jump from pure noise alone.
struct IteratedSearch {
    int rounds = 1;          // further ones, 1 to 64
    double angle = 0.62832;  // radians, in (0, pi/2), to which parents are re-noised
    int parents = 4;         // of a round: the best so far
    /// Of a round, shared out evenly (rounded down) among the parents; default as many as the first
    /// candidates.
    std::optional<int> children{};
};

}  // namespace dmpc
