#include "elites.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "dmpc/spec.hpp"

namespace dmpc {
namespace {

constexpr std::int64_t kNone = -1;

/// The eligible candidate that ranks next after `last` (kNone: before all), the first of equal
/// scores first. Nothing is sorted, so that nothing is allocated.
std::int64_t next_elite(const Candidates& candidates, std::int64_t best,
                        std::int64_t last) noexcept {
    const float* scores = candidates.scores;
    std::int64_t next = kNone;
    for (std::int64_t i = 0; i < candidates.count; ++i) {
        if (i == best || !(candidates.violations[i] <= candidates.violations[best])) continue;
        const bool taken =
            last != kNone && (scores[i] > scores[last] || (scores[i] == scores[last] && i <= last));
        if (taken || (next != kNone && !(scores[i] > scores[next]))) continue;
        if (candidates.usable(i)) next = i;
    }
    return next;
}

}  // namespace

bool Candidates::usable(std::int64_t candidate) const noexcept {
    const float* first = actions + candidate * size;
    return !std::isnan(scores[candidate]) &&
           std::all_of(first, first + size, [](float action) { return std::isfinite(action); });
}

void elite_mean(const Candidates& candidates, std::int64_t best, int num_elites,
                float* mean) noexcept {
    std::array<std::int64_t, kMaxElites> elites;
    elites[0] = best;
    std::size_t count = 1;
    std::int64_t last = kNone;
    while (count < static_cast<std::size_t>(num_elites)) {
        last = next_elite(candidates, best, last);
        if (last == kNone) break;
        elites[count++] = last;
    }
    for (std::ptrdiff_t i = 0; i < candidates.size; ++i) {
        double sum = 0;
        for (std::size_t k = 0; k < count; ++k) {
            sum += double{candidates.actions[elites[k] * candidates.size + i]};
        }
        mean[i] = static_cast<float>(sum / static_cast<double>(count));
    }
}

}  // namespace dmpc
