// dmpc::Planner: history, plan index and the plan in progress around one engine.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "dmpc/planner.hpp"
#include "engine.hpp"
#include "option_range.hpp"
#include "search_rounds.hpp"

namespace dmpc {
namespace {

constexpr int kDefaultSamples = 64;

cpu::Precision precision(const std::string& dtype) {
    if (dtype == "float32") return cpu::Precision::float32;
    if (dtype == "bf16") return cpu::Precision::bfloat16;
    if (dtype == "int8") return cpu::Precision::int8;
    throw std::invalid_argument("dtype must be 'float32', 'bf16' or 'int8', got '" + dtype + "'");
}

EngineOptions engine_options(const PlannerOptions& options) {
    return {.precision = precision(options.dtype),
            .instruction_set = cpu::InstructionSet::automatic,
            .threads = options.num_threads,
            .idle = options.spin ? Idle::spin : Idle::sleep,
            .pin = options.pin};
}

bool finite(std::span<const float> values) {
    return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
}

}  // namespace

struct Planner::State {
    State(const Model& model, const PlannerOptions& options)
        : engine(
              model.spec, [&](const std::string& name) { return model.tensor(name).values.data(); },
              engine_options(options)),
          samples(in_range("num_samples",
                           options.num_samples.value_or(
                               model.spec.recommended.num_samples.value_or(kDefaultSamples)),
                           1, kMaxSamples)),
          chunk(in_range(
              "action_chunk",
              options.action_chunk.value_or(model.spec.recommended.action_chunk.value_or(1)), 1,
              model.spec.horizon)),
          elites(
              in_range("num_elites",
                       options.num_elites.value_or(model.spec.recommended.num_elites.value_or(1)),
                       1, kMaxElites)),
          seed(options.seed),
          stream_id(options.stream_id),
          deadline_s(options.deadline_s),
          mode(options.mode),
          fallback(options.fallback && model.spec.policy),
          states(static_cast<std::size_t>(model.spec.history) * model.spec.state_size),
          actions(static_cast<std::size_t>(model.spec.history - 1) * model.spec.action_size),
          mask(model.spec.history - 1),
          context(model.spec.context),
          chosen(static_cast<std::size_t>(model.spec.horizon) * model.spec.action_size) {
        const double period = model.spec.environment.control_period_s;
        const double given = options.control_period_s.value_or(period);
        if (std::abs(given - period) > 1e-6 * std::max(given, period)) {
            throw std::invalid_argument("control_period_s is " + std::to_string(given) +
                                        " but the model was trained for " + std::to_string(period));
        }
        if (!(deadline_s >= 0)) {
            throw std::invalid_argument("deadline_s must be 0 or more, got " +
                                        std::to_string(deadline_s));
        }
        if (mode == Mode::policy && !model.spec.policy) {
            throw std::invalid_argument("mode is policy, but the model has no policy");
        }
        group.count = samples;
        const auto rows = [&](Stage stage) {
            return static_cast<int>(model.spec.stage(stage).sampler->angles.size());
        };
        engine.prepare(1, samples, 1, rows(Stage::proposal), rows(Stage::dynamics), true);
        if (options.search) {
            search.emplace(model.spec, *options.search, samples);
            search->prepare(engine);
        }
    }

    /// Whether the arrays of a call are what the model asks for.
    Status check(std::span<const float> observation, const Situation& situation) const {
        const ModelSpec& spec = engine.spec();
        const bool fits =
            observation.size() == static_cast<std::size_t>(spec.state_size) &&
            situation.context.size() == context.size() &&
            (situation.previous_action.empty() ||
             situation.previous_action.size() == static_cast<std::size_t>(spec.action_size));
        if (!fits) return Status::wrong_size;
        return finite(observation) && finite(situation.context) && finite(situation.previous_action)
                   ? Status::ok
                   : Status::not_finite;
    }

    /// Whether the policy answers a call that must be done in `due_s`.
    bool reacts(double due_s) noexcept {
        if (mode == Mode::policy) return true;
        // What the policy imitates is the learned objective: it knows no other rewards or bounds.
        if (!fallback || !terms.empty() || std::isinf(due_s)) return false;
        if (engine.least_seconds(1, samples) <= due_s) return false;
        engine.skip();
        return true;
    }

    /// The policy's action; the history is not changed.
    Status react(std::span<const float> observation, std::span<const float> given_context) {
        std::copy(observation.begin(), observation.end(), states.end() - observation.size());
        std::copy(given_context.begin(), given_context.end(), context.begin());
        return engine.react({.robots = 1,
                             .states = states.data(),
                             .actions = actions.data(),
                             .mask = mask.data(),
                             .context = context.data()},
                            reaction.data());
    }

    /// One plan from `observation`; the history is not changed.
    Status run(std::span<const float> observation, std::span<const float> given_context,
               double due_s, const PlanOutput& output) {
        std::copy(observation.begin(), observation.end(), states.end() - observation.size());
        std::copy(given_context.begin(), given_context.end(), context.begin());
        const std::int64_t robot = stream_id, index = plan_index;
        const PlanRequest request{.robots = 1,
                                  .states = states.data(),
                                  .actions = actions.data(),
                                  .mask = mask.data(),
                                  .context = context.data(),
                                  .seed = seed,
                                  .robot_ids = &robot,
                                  .plan_index = &index,
                                  .groups = {&group, 1},
                                  .terms = terms,
                                  .num_elites = elites,
                                  .deadline_s = due_s};
        return search ? search->run(engine, request, output) : engine.plan(request, output);
    }

    /// Of all rounds.
    int candidates() const { return search ? search->candidates() : samples; }

    /// What ran last, where anything did.
    std::span<float> last_action() {
        if (mask.empty() || mask.back() == 0.0f) return {};
        return std::span(actions).last(engine.spec().action_size);
    }

    /// One step on: the present state, which stands last in `states`, and `action` join the past.
    void push(std::span<const float> action) {
        if (mask.empty()) return;
        std::copy(states.begin() + engine.spec().state_size, states.end(), states.begin());
        std::copy(actions.begin() + engine.spec().action_size, actions.end(), actions.begin());
        std::copy(action.begin(), action.end(), actions.end() - engine.spec().action_size);
        std::copy(mask.begin() + 1, mask.end(), mask.begin());
        mask.back() = 1.0f;
    }

    Engine engine;
    int samples, chunk, elites;
    std::uint64_t seed;
    std::uint16_t stream_id;
    double deadline_s;
    Mode mode;
    bool fallback;
    Source source = Source::planned;
    Level level{};
    std::int64_t plan_index = 0;
    CandidateGroup group;
    std::optional<SearchRounds> search;
    std::vector<Term> terms;
    std::vector<float> states;   // (H, S): the past, and room for the present
    std::vector<float> actions;  // (H-1, A)
    std::vector<float> mask;     // (H-1)
    std::vector<float> context;
    std::vector<float> chosen;  // (F, A): the plan in progress
    int executed = 0;
    bool planned = false;
    std::vector<float> reaction = std::vector<float>(engine.spec().action_size);
    std::vector<float> replaced = std::vector<float>(actions.size());  // of an action taken back
};

Planner::Planner(const Model& model, const PlannerOptions& options)
    : state_(std::make_unique<State>(model, options)) {}
Planner::~Planner() = default;
Planner::Planner(Planner&&) noexcept = default;
Planner& Planner::operator=(Planner&&) noexcept = default;

Planner Planner::load(const std::filesystem::path& path, const PlannerOptions& options) {
    return Planner(load_model(path), options);
}

Status Planner::act(std::span<const float> observation, std::span<float> action,
                    const Situation& situation) noexcept {
    State& s = *state_;
    const auto size = static_cast<std::size_t>(s.engine.spec().action_size);
    if (action.size() != size) return Status::wrong_size;
    if (const Status status = s.check(observation, situation); status != Status::ok) return status;
    const double due_s = situation.deadline_s.value_or(s.deadline_s);
    if (!(due_s >= 0)) return Status::invalid_argument;

    std::copy(s.actions.begin(), s.actions.end(), s.replaced.begin());
    const std::span<float> last = s.last_action();
    if (!situation.previous_action.empty() && !last.empty()) {
        std::copy(situation.previous_action.begin(), situation.previous_action.end(), last.begin());
    }
    const bool needs_plan = !s.planned || s.executed >= s.chunk;
    if (needs_plan && s.reacts(due_s)) {
        if (const Status status = s.react(observation, situation.context); status != Status::ok) {
            std::copy(s.replaced.begin(), s.replaced.end(), s.actions.begin());
            return status;
        }
        // The robot has left the way of the plan in progress.
        s.planned = false;
        s.source = Source::policy;
        std::copy(s.reaction.begin(), s.reaction.end(), action.begin());
        s.push(s.reaction);
        return Status::ok;
    }
    if (needs_plan) {
        // The plan in progress is overwritten only by one that can be followed.
        std::int64_t best = 0;
        Level level;
        const Status status =
            s.run(observation, situation.context, due_s,
                  {.best = &best, .run_actions = s.chosen.data(), .level = &level});
        if (status != Status::ok) {
            std::copy(s.replaced.begin(), s.replaced.end(), s.actions.begin());
            return status;
        }
        s.level = level;
        s.executed = 0;
        s.planned = true;
        ++s.plan_index;
    } else {
        std::copy(observation.begin(), observation.end(), s.states.end() - observation.size());
    }
    const auto next = std::span<const float>(s.chosen).subspan(s.executed * size, size);
    std::copy(next.begin(), next.end(), action.begin());
    s.source = needs_plan ? Source::planned : Source::carried;
    ++s.executed;
    s.push(next);
    return Status::ok;
}

Status Planner::plan(std::span<const float> observation, Plan& plan,
                     std::span<const float> context) const noexcept {
    State& s = *state_;
    const ModelSpec& spec = s.engine.spec();
    const auto count = static_cast<std::size_t>(s.candidates()), steps = count * spec.horizon;
    const bool room = plan.actions.size() == steps * spec.action_size &&
                      plan.states.size() == steps * spec.state_size &&
                      plan.scores.size() == count && plan.violations.size() == plan.scores.size() &&
                      plan.chosen_actions.size() == s.chosen.size();
    if (!room) return Status::wrong_size;
    const Status status = s.check(observation, {.context = context});
    if (status != Status::ok) return status;
    return s.run(observation, context, s.deadline_s,
                 {.best = &plan.best,
                  .actions = plan.actions.data(),
                  .states = plan.states.data(),
                  .scores = plan.scores.data(),
                  .violations = plan.violations.data(),
                  .run_actions = plan.chosen_actions.data(),
                  .level = &plan.level});
}

Plan Planner::make_plan() const {
    const ModelSpec& spec = state_->engine.spec();
    const auto count = static_cast<std::size_t>(state_->candidates());
    const std::size_t steps = count * spec.horizon;
    return {0,
            std::vector<float>(steps * spec.action_size),
            std::vector<float>(steps * spec.state_size),
            std::vector<float>(count),
            std::vector<float>(count),
            std::vector<float>(state_->chosen.size()),
            Level{}};
}

void Planner::reset() noexcept {
    State& s = *state_;
    std::fill(s.states.begin(), s.states.end(), 0.0f);
    std::fill(s.actions.begin(), s.actions.end(), 0.0f);
    std::fill(s.mask.begin(), s.mask.end(), 0.0f);
    s.plan_index = 0;
    s.level = {};
    s.executed = 0;
    s.planned = false;
    s.source = Source::planned;
}

void Planner::reset(std::uint64_t seed) noexcept {
    state_->seed = seed;
    reset();
}

void Planner::set_objective(std::span<const Term> terms) {
    for (const Term& term : terms) {
        in_range("a term's index", term.index, 0, state_->engine.spec().state_size - 1);
        if (!(term.variance > 0)) {
            throw std::invalid_argument("a term's variance must be positive, got " +
                                        std::to_string(term.variance));
        }
    }
    state_->terms.assign(terms.begin(), terms.end());
}

const Level& Planner::level() const noexcept { return state_->level; }
Source Planner::source() const noexcept { return state_->source; }
const ModelSpec& Planner::spec() const noexcept { return state_->engine.spec(); }
int Planner::num_samples() const noexcept { return state_->samples; }
int Planner::num_candidates() const noexcept { return state_->candidates(); }
int Planner::action_chunk() const noexcept { return state_->chunk; }
int Planner::num_elites() const noexcept { return state_->elites; }

}  // namespace dmpc
