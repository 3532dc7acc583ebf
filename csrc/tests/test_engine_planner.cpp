// dmpc::Planner: an episode is repeatable, planning is pure, wrong input changes nothing.
#include <cmath>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.hpp"
#include "core/search_rounds.hpp"
#include "counting_allocator.hpp"
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
    const auto searched = [&](const IteratedSearch& search) {
        return refusal({.num_samples = 8, .search = search});
    };
    CHECK(contains(searched({.rounds = 0}), "search.rounds"));
    CHECK(contains(searched({.parents = 9}), "search.parents"));
    CHECK(contains(searched({.children = 3}), "search.children"));
    for (const double wrong : {0.0, 1.6, std::nan("")}) {
        CHECK(contains(searched({.angle = wrong}), "search.angle"));
    }
    Model student = model;
    student.spec.provenance = R"({"distillation": {"proposal": {"pure_noise": 1.0}}})";
    CHECK(contains(error_of<std::invalid_argument>([&] {
                       Planner planner(student, {.num_samples = 8, .search = IteratedSearch{}});
                   }),
                   "pure noise alone"));
    student.spec.provenance = R"({"distillation": {"proposal": {"pure_noise": 0.5}}})";
    const Planner searching(student, {.num_samples = 8, .search = IteratedSearch{}});
    CHECK(searching.num_samples() == 8 && searching.num_candidates() == 16);
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

void further_rounds_rank_with_the_first(const Model& model) {
    // Seven children of three parents are two each.
    const IteratedSearch search{.rounds = 2, .angle = 0.5, .parents = 3, .children = 7};
    Planner plain(model, {.num_samples = 8}),
        searching(model, {.num_samples = 8, .search = search});
    Plan first = plain.make_plan(), all = searching.make_plan();
    CHECK(searching.num_candidates() == 8 + 2 * 6 && all.scores.size() == 20);
    CHECK(plain.plan(observation(0), first, kContext) == Status::ok);
    CHECK(searching.plan(observation(0), all, kContext) == Status::ok);
    CHECK(std::equal(first.actions.begin(), first.actions.end(), all.actions.begin()));
    CHECK(std::equal(first.states.begin(), first.states.end(), all.states.begin()));
    for (const float score : all.scores) CHECK(score <= all.scores[all.best]);
    CHECK(all.level.candidates == 20 && all.level.full == 20 && all.level.complete);
    const float* chosen = all.actions.data() + all.best * 4 * 2;
    CHECK(std::equal(chosen, chosen + 4 * 2, all.chosen_actions.begin()));
    Vector action(2);
    const Vector here = observation(0);
    const long before = test::allocations.load();
    CHECK(searching.act(here, action, {.context = kContext}) == Status::ok);
    CHECK(test::allocations.load() == before);
    CHECK(action == Vector(chosen, chosen + 2) && searching.level().candidates == 20);
}

void a_deadline_leaves_rounds_out(const Model& model) {
    const IteratedSearch search{.rounds = 3, .parents = 2, .children = 4};
    Planner free(model, {.num_samples = 80, .search = search}),
        ample(model, {.num_samples = 80, .deadline_s = 1e6, .search = search}),
        hasty(model, {.num_samples = 80, .deadline_s = 0.0, .fallback = false, .search = search});
    CHECK(episode(free, 3) == episode(ample, 3));
    CHECK(ample.level().complete && !ample.level().missed && ample.level().candidates == 92);
    Plan plan = hasty.make_plan();
    CHECK(hasty.plan(observation(0), plan, kContext) == Status::ok);
    CHECK(plan.level.candidates > 0 && plan.level.candidates < 80);
    CHECK(!plan.level.complete && plan.level.missed && plan.scores[91] == -INFINITY);
}

/// A clock that is a second later at every reading.
struct Ticking {
    std::int64_t now = 0;
    Clock clock() {
        return {.read =
                    [](void* self) noexcept {
                        return static_cast<Ticking*>(self)->now += 1'000'000'000;
                    },
                .context = this};
    }
};

void as_many_rounds_as_there_is_time_for(const Model& model) {
    const IteratedSearch search{.rounds = 4, .parents = 2, .children = 4};
    Ticking time;
    Engine engine(model.spec,
                  [&](const std::string& name) { return model.tensor(name).values.data(); }, {});
    SearchRounds rounds(model.spec, search, 4, time.clock());
    const CandidateGroup group{.count = 4};
    const Vector states(6), actions(2), mask(1);
    const std::int64_t robot = 0, index = 0;
    std::vector<float> scores(20);
    // A round takes a second and is given one and a quarter; the deadline is the planner's own, not
    // the engine's, whose clock is the machine's.
    for (const auto& [deadline, candidates] : {std::pair{2.0, 4}, {2.5, 8}, {3.5, 12}, {1e9, 20}}) {
        Level level;
        const PlanRequest request{.states = states.data(),
                                  .actions = actions.data(),
                                  .mask = mask.data(),
                                  .context = kContext.data(),
                                  .robot_ids = &robot,
                                  .plan_index = &index,
                                  .groups = {&group, 1},
                                  .deadline_s = deadline};
        CHECK(rounds.run(engine, request, {.scores = scores.data(), .level = &level}) ==
              Status::ok);
        CHECK(level.candidates == candidates && level.full == candidates);
        CHECK(level.complete == (candidates == 20));
        for (int i = candidates; i < 20; ++i) CHECK(scores[i] == -INFINITY);
    }
}

void what_cannot_be_renoised_ends_the_search(const Model& model) {
    // A scale at which the actions of some candidates overflow, and those of others do not.
    Model wide = model;
    wide.spec.environment.action_low = wide.spec.environment.action_high = {{}, {}};
    int ended = 0;
    for (float scale = 3e38f; scale > 1e36f; scale /= 1.3f) {
        wide.tensors.at("normalizer.action.scale").values.back() = scale;
        const IteratedSearch search{.angle = 1e-3, .parents = 64};
        Planner planner(wide, {.num_samples = 64, .search = search});
        Plan plan = planner.make_plan();
        if (planner.plan(observation(0), plan, kContext) != Status::ok) continue;
        CHECK(plan.best < plan.level.candidates && std::isfinite(plan.scores[plan.best]));
        if (plan.level.candidates == 128) continue;
        ++ended;
        CHECK(plan.level.candidates == 64 && plan.scores[127] == -INFINITY);
        CHECK(std::isnan(plan.actions.back()) && std::isnan(plan.states.back()));
    }
    CHECK(ended > 0);
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
    further_rounds_rank_with_the_first(model);
    a_deadline_leaves_rounds_out(model);
    as_many_rounds_as_there_is_time_for(model);
    what_cannot_be_renoised_ends_the_search(model);
    return 0;
}
