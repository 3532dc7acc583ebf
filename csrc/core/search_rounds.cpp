#include "search_rounds.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

#include "elites.hpp"
#include "json.hpp"
#include "option_range.hpp"
#include "scoring.hpp"

namespace dmpc {
namespace {

constexpr int kMaxRounds = 64;
constexpr double kPureNoise = 1.57079632679489662;  // pi/2
// Added to the random stream's key with every round, since children have their parents' numbers
// but must not have their noise: 2^64 over the golden ratio.
constexpr std::uint64_t kKeyStep = 0x9E3779B97F4A7C15;
// A round may take so many times as long as its candidates did in the round before.
constexpr double kMargin = 1.25;

const json::Value* member(const json::Value* value, std::string_view key) {
    const auto* object = value ? value->get<json::Object>() : nullptr;
    if (!object) return nullptr;
    const auto found = object->find(key);
    return found == object->end() ? nullptr : &found->second;
}

/// Whether the proposal is a student that learned to jump from pure noise alone, by its own
/// account.
bool jumps_from_pure_noise_alone(const ModelSpec& spec) {
    const json::Value provenance = json::parse(spec.provenance);
    const json::Value* share =
        member(member(member(&provenance, "distillation"), "proposal"), "pure_noise");
    const auto* number = share ? share->get<json::Number>() : nullptr;
    return number && number->real() == 1.0;
}

}  // namespace

SearchRounds::SearchRounds(const ModelSpec& spec, const IteratedSearch& search, int samples,
                           const Clock& clock)
    : search_(search),
      clock_(clock),
      samples_(samples),
      states_of_plan_(spec.horizon * spec.state_size),
      actions_of_plan_(spec.horizon * spec.action_size) {
    in_range("search.rounds", search.rounds, 1, kMaxRounds);
    in_range("search.parents", search.parents, 1, samples);
    const int wanted =
        in_range("search.children", search.children.value_or(samples), search.parents, kMaxSamples);
    children_ = wanted / search.parents * search.parents;
    if (!(search.angle > 0 && search.angle < kPureNoise)) {
        throw std::invalid_argument("search.angle must lie in (0, pi/2), got " +
                                    std::to_string(search.angle));
    }
    if (jumps_from_pure_noise_alone(spec)) {
        throw std::invalid_argument(
            "search re-noises actions, which mean nothing to this model: its proposal is a student "
            "that jumps from pure noise alone (its provenance has pure_noise 1)");
    }
    const SamplerSpec& own = *spec.stage(Stage::proposal).sampler;
    sampler_ = {own.rule, {search.angle}};
    std::copy_if(own.angles.begin(), own.angles.end(), std::back_inserter(sampler_.angles),
                 [&](double angle) { return angle < search.angle; });
    const auto all = static_cast<std::size_t>(candidates());
    start_.resize(static_cast<std::size_t>(children_) * actions_of_plan_);
    actions_.resize(all * actions_of_plan_);
    scores_.resize(all);
    violations_.resize(all);
    order_.resize(all);
}

void SearchRounds::prepare(Engine& engine) const {
    const auto& stages = engine.spec().stages;
    const auto rows = [&](Stage stage) {
        return static_cast<int>(stages[static_cast<std::size_t>(stage)].sampler->angles.size());
    };
    const int proposal_rows =
        std::max(rows(Stage::proposal), static_cast<int>(sampler_.angles.size()));
    engine.prepare(1, std::max(samples_, children_), 1, proposal_rows, rows(Stage::dynamics));
}

Status SearchRounds::run(Engine& engine, const PlanRequest& first,
                         const PlanOutput& output) noexcept {
    float* actions = output.actions ? output.actions : actions_.data();
    float* scores = output.scores ? output.scores : scores_.data();
    float* violations = output.violations ? output.violations : violations_.data();
    const auto part = [&](int at, std::int64_t* best, Level* level) {
        const auto from = static_cast<std::ptrdiff_t>(at);
        return PlanOutput{
            .best = best,
            .actions = actions + from * actions_of_plan_,
            .states = output.states ? output.states + from * states_of_plan_ : nullptr,
            .scores = scores + from,
            .violations = violations + from,
            .level = level};
    };

    const std::int64_t begin_ns = clock_.now();
    std::int64_t best = 0;
    Level level{};
    Status status = engine.plan(first, part(0, &best, &level));
    if (status != Status::ok) return status;
    int count = samples_, before = samples_;
    double began = 0;
    const CandidateGroup group{.count = children_,
                               .proposal = &sampler_,
                               .dynamics = first.groups.front().dynamics,
                               .start = start_.data()};
    const int rounds = level.complete ? search_.rounds : 0;
    for (int round = 1; round <= rounds; ++round) {
        const double now = clock_.since(begin_ns);
        if (now + kMargin * (now - began) * children_ / before > first.deadline_s) break;
        if (!choose_parents(actions, scores, violations, count)) break;
        began = now;
        before = children_;
        PlanRequest next = first;
        next.deadline_s = std::numeric_limits<double>::infinity();
        next.seed += static_cast<std::uint64_t>(round) * kKeyStep;
        next.groups = {&group, 1};
        std::int64_t found = 0;
        status = engine.plan(next, part(count, &found, nullptr));
        if (status != Status::ok) return status;
        found += count;
        // The best of each part is exact, ties and all; between the two the score decides.
        const float their_scores[] = {scores[best], scores[found]};
        const float their_violations[] = {violations[best], violations[found]};
        constexpr float kTied[] = {0.0f, 0.0f};
        if (Objective::best(their_scores, their_violations, kTied, 2) == 1) best = found;
        count += children_;
    }

    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const std::ptrdiff_t done = count, all = candidates();
    std::fill(actions + done * actions_of_plan_, actions + all * actions_of_plan_, nan);
    if (output.states) {
        std::fill(output.states + done * states_of_plan_, output.states + all * states_of_plan_,
                  nan);
    }
    std::fill(scores + done, scores + all, -infinity);
    std::fill(violations + done, violations + all, infinity);
    if (rounds > 0) {
        level.candidates = level.full = count;
        level.complete = count == candidates();
    }
    level.missed = clock_.since(begin_ns) > first.deadline_s;
    if (output.best) *output.best = best;
    if (output.level) *output.level = level;
    if (output.run_actions) {
        elite_mean({actions, scores, violations, count, actions_of_plan_}, best, first.num_elites,
                   output.run_actions);
    }
    return Status::ok;
}

/// The actions of the best `parents` of `count` candidates to `start_`, each as often as it has
/// children. False where one of them is not finite.
bool SearchRounds::choose_parents(const float* actions, const float* scores,
                                  const float* violations, int count) noexcept {
    const auto ranks_before = [&](std::int64_t a, std::int64_t b) {
        int order = Objective::compare(violations[a], violations[b]);
        if (order == 0) order = Objective::compare(-scores[a], -scores[b]);
        return order == 0 ? a < b : order < 0;
    };
    std::iota(order_.begin(), order_.begin() + count, std::int64_t{0});
    std::partial_sort(order_.begin(), order_.begin() + search_.parents, order_.begin() + count,
                      ranks_before);
    float* to = start_.data();
    for (int parent = 0; parent < search_.parents; ++parent) {
        const float* from = actions + order_[parent] * actions_of_plan_;
        const float* end = from + actions_of_plan_;
        if (!std::all_of(from, end, [](float action) { return std::isfinite(action); })) {
            return false;
        }
        for (int child = 0; child < children_ / search_.parents; ++child) {
            to = std::copy(from, end, to);
        }
    }
    return true;
}

}  // namespace dmpc
