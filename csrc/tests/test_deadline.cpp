// Plans under a deadline, on a clock that the test moves: what is left out, and that the rest
// stays.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "core/engine.hpp"
#include "tiny_model.hpp"

namespace {

using namespace dmpc;

constexpr int kRobots = 3;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Moves on by a millisecond whenever it is read: what an engine of one thread does between two
/// looks at it, such as one chunk of candidates, takes a millisecond.
struct TickingClock {
    std::atomic<std::int64_t> ticks{0};

    static std::int64_t read(void* context) noexcept {
        return 1'000'000 * static_cast<TickingClock*>(context)->ticks.fetch_add(1);
    }
    Clock clock() { return {.read = &read, .context = this}; }
};

std::vector<float> normal_values(std::mt19937_64& random, std::size_t size) {
    std::normal_distribution<float> normal;
    std::vector<float> values(size);
    for (float& value : values) value = normal(random);
    return values;
}

/// Three robots, two groups of several chunks; samplers of 8 and 5 steps, and of 1 and 3.
struct Case {
    explicit Case(std::mt19937_64& random)
        : model(load_model(test::tiny_file(test::tiny_spec(), random).joined())) {
        const ModelSpec& spec = model.spec;
        for (auto& [name, tensor] : model.tensors) {
            if (name.ends_with(".scale")) continue;
            tensor.values = normal_values(random, tensor.values.size());
            for (float& value : tensor.values) value *= 0.4f;
        }
        states = normal_values(random, std::size_t{kRobots} * spec.history * spec.state_size);
        actions =
            normal_values(random, std::size_t{kRobots} * (spec.history - 1) * spec.action_size);
        context = normal_values(random, std::size_t{kRobots} * spec.context);
        mask.assign(std::size_t{kRobots} * (spec.history - 1), 1.0f);
        groups = {{.count = 77, .proposal = &eight, .dynamics = &five},
                  {.count = 50, .proposal = &one, .dynamics = &three}};
        request = {.robots = kRobots,
                   .states = states.data(),
                   .actions = actions.data(),
                   .mask = mask.data(),
                   .context = context.data(),
                   .seed = random(),
                   .robot_ids = robots,
                   .plan_index = plan_index,
                   .groups = groups};
    }

    Engine engine(const EngineOptions& options) const {
        return Engine(
            model.spec,
            [this](const std::string& name) { return model.tensor(name).values.data(); }, options);
    }

    int steps(int candidate, int level, bool proposal) const {
        const bool first = candidate < groups[0].count;
        return steps_at(proposal ? (first ? 8 : 1) : (first ? 5 : 3), level);
    }

    Model model;
    std::vector<float> states, actions, context, mask;
    std::int64_t robots[kRobots] = {2, 7, 40}, plan_index[kRobots] = {0, 5, 1};
    SamplerSpec eight{SamplerRule::consistency, {1.5, 1.3, 1.1, 0.9, 0.7, 0.5, 0.3, 0.1}};
    SamplerSpec five{SamplerRule::ddim, {1.5, 1.2, 0.9, 0.6, 0.3}};
    SamplerSpec one{SamplerRule::ddim, {1.4}}, three{SamplerRule::ddim, {1.5, 1.0, 0.5}};
    std::vector<CandidateGroup> groups;
    PlanRequest request;
};

struct Result {
    explicit Result(const Case& given) : all(given.request.candidates()) {
        const ModelSpec& spec = given.model.spec;
        const auto count = static_cast<std::size_t>(kRobots) * all;
        action_size = spec.horizon * spec.action_size;
        state_size = spec.horizon * spec.state_size;
        best.assign(kRobots, -1);
        // Old values, as of a former plan: none of them may survive.
        actions.assign(count * action_size, 7.0f);
        states.assign(count * state_size, 7.0f);
        scores.assign(count, kInfinity);
        violations.assign(count, -1.0f);
        levels.assign(count, 99);
    }
    PlanOutput output() {
        return {.best = best.data(),
                .actions = actions.data(),
                .states = states.data(),
                .scores = scores.data(),
                .violations = violations.data(),
                .levels = levels.data(),
                .level = &level};
    }

    int all, action_size, state_size;
    std::vector<std::int64_t> best;
    std::vector<float> actions, states, scores, violations;
    std::vector<std::int8_t> levels;
    Level level;
};

/// Whether candidate `at` (of all robots') is the same in two results, bit for bit.
bool same(const Result& a, const Result& b, int at) {
    const auto equal = [at](const std::vector<float>& x, const std::vector<float>& y, int size) {
        const auto first = std::ptrdiff_t{at} * size;
        return std::equal(x.begin() + first, x.begin() + first + size, y.begin() + first);
    };
    return equal(a.actions, b.actions, a.action_size) && equal(a.states, b.states, a.state_size) &&
           equal(a.scores, b.scores, 1) && equal(a.violations, b.violations, 1);
}

void check_result(const Case& given, const Result& full, const Result& cut) {
    Level least{
        .candidates = cut.all, .full = cut.all, .proposal_steps = 255, .dynamics_steps = 255};
    for (int robot = 0; robot < kRobots; ++robot) {
        int planned = 0, complete = 0;
        for (int i = 0; i < cut.all; ++i) {
            const int at = robot * cut.all + i, level = cut.levels[at];
            CHECK(level >= kNotPlanned && level < 4);
            if (level == kNotPlanned) {
                CHECK(cut.scores[at] == -kInfinity && cut.violations[at] == kInfinity);
                CHECK(std::isnan(cut.actions[std::ptrdiff_t{at} * cut.action_size]));
                CHECK(std::isnan(cut.states[std::ptrdiff_t{at} * cut.state_size]));
                continue;
            }
            ++planned;
            CHECK(std::isfinite(cut.scores[at]));
            if (level == 0) {
                ++complete;
                CHECK(same(full, cut, at));
            }
            least.proposal_steps = std::min(least.proposal_steps, given.steps(i, level, true));
            least.dynamics_steps = std::min(least.dynamics_steps, given.steps(i, level, false));
        }
        CHECK(planned > 0);
        least.candidates = std::min(least.candidates, planned);
        least.full = std::min(least.full, complete);
        const auto first = cut.scores.begin() + std::ptrdiff_t{robot} * cut.all;
        CHECK(cut.best[robot] == std::max_element(first, first + cut.all) - first);
    }
    CHECK(cut.level.candidates == least.candidates && cut.level.full == least.full);
    CHECK(cut.level.proposal_steps == least.proposal_steps);
    CHECK(cut.level.dynamics_steps == least.dynamics_steps);
    CHECK(cut.level.complete == (least.full == cut.all));
}

/// What is planned grows with the deadline, from one chunk of each robot at the lowest level to
/// all.
void levels_follow_the_deadline(const Case& given) {
    Result full(given);
    TickingClock ticking;
    Engine engine = given.engine({.clock = ticking.clock()});
    CHECK(engine.plan(given.request, full.output()) == Status::ok);
    CHECK(full.level.complete && !full.level.missed && full.level.candidates == full.all);
    CHECK(full.level.proposal_steps == 1 && full.level.dynamics_steps == 3);

    bool lower = false, none = false, whole = false;
    for (int ms = 0; ms <= 60; ++ms) {
        Result cut(given);
        PlanRequest request = given.request;
        request.deadline_s = 1e-3 * ms;
        CHECK(engine.plan(request, cut.output()) == Status::ok);
        check_result(given, full, cut);
        const auto count = [&](int level) {
            return std::count(cut.levels.begin(), cut.levels.end(), level);
        };
        lower = lower || count(1) + count(2) + count(3) > 0;
        none = none || count(kNotPlanned) > 0;
        whole = whole || cut.level.complete;
        if (ms > 0) continue;
        CHECK(cut.level.missed && cut.level.full == 0 && cut.level.proposal_steps == 1);
        CHECK(count(3) > 0 && count(3) + count(kNotPlanned) == kRobots * cut.all);
    }
    CHECK(lower && none && whole);
}

void an_ample_deadline_changes_nothing(const Case& given) {
    for (const int threads : {1, 3}) {
        // On a new engine: nothing is known of its pace yet.
        Engine engine = given.engine({.threads = threads});
        Result timed(given), full(given);
        PlanRequest request = given.request;
        request.deadline_s = 1e6;
        CHECK(engine.plan(request, timed.output()) == Status::ok);
        CHECK(engine.plan(given.request, full.output()) == Status::ok);
        CHECK(timed.level.complete && !timed.level.missed && timed.best == full.best);
        check_result(given, full, timed);
    }
}

/// The levels of a plan make it again, on any number of threads.
void levels_repeat_a_plan(const Case& given, std::mt19937_64& random) {
    Result given_levels(given);
    for (std::int8_t& level : given_levels.levels) {
        level = static_cast<std::int8_t>(static_cast<int>(random() % 5) - 1);
    }
    for (int robot = 0; robot < kRobots; ++robot) given_levels.levels[robot * given_levels.all] = 0;
    PlanRequest request = given.request;
    request.levels = given_levels.levels.data();
    Engine one = given.engine({}), two = given.engine({.threads = 2});
    Result full(given), first(given), second(given);
    CHECK(one.plan(given.request, full.output()) == Status::ok);
    CHECK(one.plan(request, first.output()) == Status::ok);
    CHECK(two.plan(request, second.output()) == Status::ok);
    CHECK(first.levels == second.levels && first.best == second.best);
    check_result(given, full, first);
    for (int at = 0; at < kRobots * first.all; ++at) {
        CHECK(first.levels[at] == kNotPlanned || same(first, second, at));
    }
}

void wrong_requests_are_refused(const Case& given) {
    Engine engine = given.engine({});
    Result result(given);
    PlanRequest request = given.request;
    for (const double wrong : {-1e-9, std::nan("")}) {
        request.deadline_s = wrong;
        CHECK(engine.plan(request, result.output()) == Status::invalid_argument);
    }
    request.deadline_s = 1.0;
    CHECK(engine.sample(request, result.actions.data()) == Status::invalid_argument);
    request = given.request;
    std::vector<std::int8_t> levels(result.levels.size(), std::int8_t{kNotPlanned});
    request.levels = levels.data();
    CHECK(engine.plan(request, result.output()) == Status::no_candidate);
    for (const int wrong : {-2, kMaxLevels}) {
        levels.back() = static_cast<std::int8_t>(wrong);
        CHECK(engine.plan(request, result.output()) == Status::invalid_argument);
    }
}

}  // namespace

int main() {
    std::mt19937_64 random(std::random_device{}());
    const Case given(random);
    levels_follow_the_deadline(given);
    an_ample_deadline_changes_nothing(given);
    levels_repeat_a_plan(given, random);
    wrong_requests_are_refused(given);
    return 0;
}
