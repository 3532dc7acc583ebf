// What a plan runs: its best candidate, or the mean of its elites.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dmpc {

/// The candidates of one robot and how they rank.
struct Candidates {
    const float* actions;     // (count, size)
    const float* scores;      // (count)
    const float* violations;  // (count)
    std::int64_t count;
    std::ptrdiff_t size;

    /// Whether a candidate has a score and finite actions.
    bool usable(std::int64_t candidate) const noexcept;
};

/// To `mean` (size) the mean of the actions of `best` and of the candidates next in score,
/// `num_elites` of them in all, from 1 to kMaxElites. Only candidates count that are usable and
/// violate constraints no more than `best`; there may be fewer.
void elite_mean(const Candidates& candidates, std::int64_t best, int num_elites,
                float* mean) noexcept;

}  // namespace dmpc
