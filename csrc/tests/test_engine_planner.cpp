// dmpc::Planner: an episode is repeatable, planning is pure, wrong input changes nothing.
#include <cmath>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.hpp"
#include "dmpc/planner.hpp"
#include "tiny_model.hpp"

namespace {

using namespace dmpc;
using test::contains;
using test::error_of;
using Vector = std::vector<float>;

Model make_model(std::mt19937_64& random) {
    Model model = load_model(test::tiny_file(test::tiny_spec(), random).joined());
    std::normal_distribution<float> normal;
    for (auto& [name, tensor] : model.tensors) {
        if (name.ends_with(".scale")) continue;
        for (float& value : tensor.values) value = 0.4f * normal(random);
    }
    return model;
}

Vector observation(int step) {
    const auto time = static_cast<float>(step);
    return {std::sin(0.3f * time), 0.5f, -0.1f * time};
}
const Vector kContext{0.25f};

std::vector<Vector> episode(Planner& planner, int steps) {
    std::vector<Vector> actions;
    for (int i = 0; i < steps; ++i) {
        Vector action(2, std::nanf(""));
        CHECK(planner.act(observation(i), action, {.context = kContext}) == Status::ok);
        CHECK(action[0] >= -0.5f && action[0] <= 0.5f);
        actions.push_back(action);
    }
    return actions;
}

void an_episode_repeats(const Model& model) {
    Planner one(model, {.num_samples = 8, .seed = 5}),
        two(model, {.num_samples = 8, .num_threads = 2});
    const auto first = episode(one, 7);
    CHECK(episode(two, 7) != first);
    one.reset();
    CHECK(episode(one, 7) == first);
    two.reset(5);
    CHECK(episode(two, 7) == first);
    Planner moved = std::move(one);
    moved.reset();
    CHECK(episode(moved, 7) == first);
}

void planning_is_pure(const Model& model) {
    Planner planner(model, {.num_samples = 8, .action_chunk = 2, .dtype = "bf16"});
    Planner other(model, {.num_samples = 8, .action_chunk = 2, .dtype = "bf16"});
    Plan plan = planner.make_plan(), again = planner.make_plan();
    CHECK(planner.plan(observation(0), plan, kContext) == Status::ok);
    CHECK(planner.plan(observation(0), again, kContext) == Status::ok);
    CHECK(plan.actions == again.actions && plan.scores == again.scores && plan.best == again.best);
    // A chunk runs the chosen plan's first actions.
    const auto actions = episode(planner, 2);
    const float* chosen = plan.actions.data() + plan.best * 4 * 2;
    CHECK(actions[0] == Vector(chosen, chosen + 2) && actions[1] == Vector(chosen + 2, chosen + 4));
    CHECK(episode(other, 2) == actions);
    CHECK(plan.actions.size() == 8 * 4 * 2 && plan.states.size() == 8 * 4 * 3);
}

void act_runs_what_the_plan_says(const Model& model) {
    Planner planner(model, {.num_samples = 8, .action_chunk = 2, .num_elites = 3});
    Plan plan = planner.make_plan();
    CHECK(planner.plan(observation(0), plan, kContext) == Status::ok);
    const auto actions = episode(planner, 2);
    const float* chosen = plan.chosen_actions.data();
    CHECK(plan.chosen_actions.size() == 4 * 2);
    CHECK(actions[0] == Vector(chosen, chosen + 2) && actions[1] == Vector(chosen + 2, chosen + 4));
    const float* best = plan.actions.data() + plan.best * 4 * 2;
    CHECK(actions[0] != Vector(best, best + 2));
    plan.chosen_actions.pop_back();
    CHECK(planner.plan(observation(0), plan, kContext) == Status::wrong_size);
}

void what_really_ran_counts(const Model& model) {
    Planner one(model, {.num_samples = 8}), two(model, {.num_samples = 8});
    CHECK(episode(one, 1) == episode(two, 1));
    const Vector ran{0.1f, -0.2f};
    Vector a(2), b(2);
    CHECK(one.act(observation(1), a, {.context = kContext, .previous_action = ran}) == Status::ok);
    CHECK(two.act(observation(1), b, {.context = kContext}) == Status::ok);
    CHECK(a != b);
}

void a_call_has_its_own_deadline(const Model& model) {
    Planner planner(model, {.num_samples = 64});
    Vector action(2);
    const auto act = [&](std::optional<double> deadline_s) {
        return planner.act(observation(0), action, {.context = kContext, .deadline_s = deadline_s});
    };
    CHECK(act(0.0) == Status::ok);
    CHECK(!planner.level().complete && planner.level().candidates >= 1);
    CHECK(act(std::nullopt) == Status::ok && planner.level().complete);
    const Vector before = action;
    for (const double wrong : {-1.0, std::nan("")}) {
        CHECK(act(wrong) == Status::invalid_argument && action == before);
    }
}

void wrong_input_changes_nothing(const Model& model) {
    Planner one(model, {.num_samples = 8}), two(model, {.num_samples = 8});
    CHECK(episode(one, 2) == episode(two, 2));
    Vector action{7.0f, 7.0f}, short_action(1), bad = observation(2);
    const Situation situation{.context = kContext};
    CHECK(one.act(Vector(2), action, situation) == Status::wrong_size);
    CHECK(one.act(observation(2), short_action, situation) == Status::wrong_size);
    CHECK(one.act(observation(2), action) == Status::wrong_size);
    bad[1] = INFINITY;
    const Vector other{0.3f, 0.3f};
    CHECK(one.act(bad, action, {.context = kContext, .previous_action = other}) ==
          Status::not_finite);
    CHECK(action == (Vector{7.0f, 7.0f}));
    Plan small;
    CHECK(one.plan(observation(2), small, kContext) == Status::wrong_size);
    CHECK(episode(one, 3) == episode(two, 3));
}

void options_are_checked(const Model& model) {
    const auto refusal = [&](const PlannerOptions& options) {
        return error_of<std::invalid_argument>([&] { Planner planner(model, options); });
    };
    CHECK(contains(refusal({.num_samples = 0}), "num_samples"));
    CHECK(contains(refusal({.action_chunk = 5}), "action_chunk"));
    CHECK(contains(refusal({.num_threads = -1}), "threads"));
    CHECK(contains(refusal({.dtype = "float16"}), "float16"));
    CHECK(contains(refusal({.control_period_s = 0.02}), "control_period_s"));
    for (const double wrong : {-1e-3, std::nan("")}) {
        CHECK(contains(refusal({.deadline_s = wrong}), "deadline_s"));
    }
    Planner planner(model, {.num_samples = 4});
    const Term outside{.kind = TermKind::speed, .index = 3};
    CHECK(contains(error_of<std::invalid_argument>([&] { planner.set_objective({&outside, 1}); }),
                   "index"));
}

void an_objective_changes_the_choice(const Model& model) {
    Planner planner(model, {.num_samples = 32});
    const Term terms[] = {{.kind = TermKind::quadratic_target, .index = 1, .target = 100.0}};
    planner.set_objective(terms);
    Plan plan = planner.make_plan();
    CHECK(planner.plan(observation(0), plan, kContext) == Status::ok);
    for (const float score : plan.scores) CHECK(score <= plan.scores[plan.best]);
    CHECK(plan.scores[plan.best] < 0);
}

void a_deadline_cuts_a_plan(const Model& model) {
    Planner free(model, {.num_samples = 80}), ample(model, {.num_samples = 80, .deadline_s = 1e6});
    CHECK(episode(free, 3) == episode(ample, 3));
    CHECK(free.level().complete && ample.level().complete && !ample.level().missed);
    CHECK(ample.level().candidates == 80 && ample.level().full == 80);
    ample.reset();
    CHECK(ample.level().candidates == 0);
    Planner hasty(model, {.num_samples = 80, .deadline_s = 0.0});
    episode(hasty, 3);
    CHECK(hasty.level().candidates > 0 && hasty.level().candidates < 80);
    CHECK(!hasty.level().complete && hasty.level().missed && hasty.level().proposal_steps == 1);
    Plan plan = hasty.make_plan();
    CHECK(hasty.plan(observation(0), plan, kContext) == Status::ok);
    CHECK(plan.level.candidates == hasty.level().candidates);
    CHECK(std::isfinite(plan.scores[plan.best]));
}

}  // namespace

int main() {
    std::mt19937_64 random(std::random_device{}());
    const Model model = make_model(random);
    an_episode_repeats(model);
    planning_is_pure(model);
    act_runs_what_the_plan_says(model);
    what_really_ran_counts(model);
    a_call_has_its_own_deadline(model);
    wrong_input_changes_nothing(model);
    options_are_checked(model);
    an_objective_changes_the_choice(model);
    a_deadline_cuts_a_plan(model);
    return 0;
}
