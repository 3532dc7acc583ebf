// The mean of the elites, against sorting.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "core/elites.hpp"
#include "dmpc/spec.hpp"

namespace {

using namespace dmpc;

struct Case {
    static constexpr std::ptrdiff_t kSize = 5;
    std::vector<float> actions, scores, violations;

    Candidates candidates() const {
        return {actions.data(), scores.data(), violations.data(),
                static_cast<std::int64_t>(scores.size()), kSize};
    }
};

/// Few different scores and violations, so that many are equal; some candidates are not numbers.
Case make_case(std::mt19937_64& random, int count) {
    Case made;
    std::normal_distribution<float> normal;
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (int i = 0; i < count; ++i) {
        made.scores.push_back(random() % 8 == 0 ? nan : static_cast<float>(random() % 5));
        made.violations.push_back(static_cast<float>(random() % 2));
        const bool broken = random() % 8 == 0;
        for (int k = 0; k < Case::kSize; ++k) {
            made.actions.push_back(broken && k == 3 ? nan : normal(random));
        }
    }
    return made;
}

std::vector<double> sorted_mean(const Case& made, std::int64_t best, int num_elites) {
    const Candidates all = made.candidates();
    std::vector<std::int64_t> order;
    for (std::int64_t i = 0; i < all.count; ++i) {
        const bool allowed = all.violations[i] <= all.violations[best];
        if (i != best && allowed && all.usable(i)) order.push_back(i);
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](auto a, auto b) { return all.scores[a] > all.scores[b]; });
    order.insert(order.begin(), best);
    order.resize(std::min(order.size(), static_cast<std::size_t>(num_elites)));
    std::vector<double> mean(Case::kSize);
    for (const std::int64_t i : order) {
        for (int k = 0; k < Case::kSize; ++k) mean[k] += all.actions[i * Case::kSize + k];
    }
    for (double& value : mean) value /= static_cast<double>(order.size());
    return mean;
}

void equals_sorting(std::mt19937_64& random) {
    for (int round = 0; round < 300; ++round) {
        const Case made = make_case(random, 1 + static_cast<int>(random() % 40));
        const Candidates all = made.candidates();
        for (std::int64_t best = 0; best < all.count; ++best) {
            if (!all.usable(best)) continue;
            const int num_elites = 1 + static_cast<int>(random() % 50);
            std::vector<float> mean(Case::kSize);
            elite_mean(all, best, num_elites, mean.data());
            const auto expected = sorted_mean(made, best, num_elites);
            for (int k = 0; k < Case::kSize; ++k) {
                CHECK(mean[k] == static_cast<float>(expected[k]));
            }
        }
    }
}

void one_elite_is_the_best(std::mt19937_64& random) {
    const Case made = make_case(random, 30);
    std::vector<float> mean(Case::kSize);
    elite_mean(made.candidates(), 17, 1, mean.data());
    for (int k = 0; k < Case::kSize; ++k) {
        const float own = made.actions[17 * Case::kSize + k];
        CHECK(mean[k] == own || (std::isnan(mean[k]) && std::isnan(own)));
    }
}

}  // namespace

int main() {
    std::mt19937_64 random(std::random_device{}());
    equals_sorting(random);
    one_elite_is_the_best(random);
    return 0;
}
