// The policy in dmpc::Planner: alone, in place of plans that would be late, and without allocation.
#include <cmath>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "check.hpp"
#include "counting_allocator.hpp"
#include "dmpc/planner.hpp"
#include "tiny_model.hpp"

namespace {

using namespace dmpc;
using test::contains;
using test::error_of;
using Vector = std::vector<float>;

const Vector kObservation{0.1f, 0.5f, -0.2f}, kContext{0.25f};
constexpr double kNever = std::numeric_limits<double>::infinity();

Model make_model(bool with_policy, std::mt19937_64& random) {
    ModelSpec spec = test::tiny_spec();
    if (!with_policy) spec.policy.reset();
    return load_model(test::tiny_file(spec, random).joined());
}

void the_policy_acts_alone(const Model& model) {
    Planner planner(model, {.mode = Mode::policy});
    Vector action(2), again(2);
    const Situation situation{.context = kContext};
    CHECK(planner.act(kObservation, action, situation) == Status::ok);
    const long before = test::allocations.load();
    // The action that ran is part of the history by now.
    CHECK(planner.act(kObservation, again, situation) == Status::ok);
    CHECK(planner.source() == Source::policy);
    planner.reset();
    CHECK(planner.act(kObservation, again, situation) == Status::ok);
    CHECK(test::allocations.load() == before);
    CHECK(again == action);
    CHECK(action[0] >= -0.5f && action[0] <= 0.5f);
    CHECK(planner.act(Vector{0.0f, std::nanf(""), 0.0f}, again, situation) == Status::not_finite);
    CHECK(again == action);
}

void it_answers_where_a_plan_would_be_late(const Model& model) {
    Planner planner(model, {.num_samples = 8, .action_chunk = 2});
    Vector action(2);
    const Situation late{.context = kContext, .previous_action = {}, .deadline_s = 0.0};
    const Situation calm{.context = kContext, .previous_action = {}, .deadline_s = kNever};
    // Nothing is known of a plan's time before the first one.
    CHECK(planner.act(kObservation, action, late) == Status::ok);
    CHECK(planner.source() == Source::planned);
    CHECK(planner.act(kObservation, action, late) == Status::ok);
    CHECK(planner.source() == Source::carried);
    const long before = test::allocations.load();
    CHECK(planner.act(kObservation, action, late) == Status::ok);
    CHECK(planner.source() == Source::policy);
    CHECK(test::allocations.load() == before);
    CHECK(planner.act(kObservation, action, calm) == Status::ok);
    CHECK(planner.source() == Source::planned);
    planner.reset();
    CHECK(planner.source() == Source::planned);
}

void without_it_plans_are_late(const Model& model) {
    Planner planner(model, {.num_samples = 8, .fallback = false});
    Vector action(2);
    for (int i = 0; i < 3; ++i) {
        CHECK(planner.act(kObservation, action,
                          {.context = kContext, .previous_action = {}, .deadline_s = 0.0}) ==
              Status::ok);
        CHECK(planner.source() == Source::planned);
        CHECK(planner.level().missed);
    }
}

void another_objective_is_not_the_policys(const Model& model) {
    Planner planner(model, {.num_samples = 8, .deadline_s = 0.0});
    const Term terms[] = {{.kind = TermKind::quadratic_target, .index = 1, .target = 1.0}};
    planner.set_objective(terms);
    Vector action(2);
    for (int i = 0; i < 3; ++i) {
        CHECK(planner.act(kObservation, action, {.context = kContext}) == Status::ok);
        CHECK(planner.source() == Source::planned);
    }
    planner.set_objective({});
    CHECK(planner.act(kObservation, action, {.context = kContext}) == Status::ok);
    CHECK(planner.source() == Source::policy);
}

}  // namespace

int main() {
    std::mt19937_64 random(std::random_device{}());
    const Model with = make_model(true, random), without = make_model(false, random);
    the_policy_acts_alone(with);
    it_answers_where_a_plan_would_be_late(with);
    without_it_plans_are_late(with);
    another_objective_is_not_the_policys(with);
    CHECK(
        contains(error_of<std::invalid_argument>([&] { Planner(without, {.mode = Mode::policy}); }),
                 "no policy"));
    return 0;
}
