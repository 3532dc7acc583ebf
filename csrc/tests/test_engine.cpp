// The engine and its kernels: no allocation in a call, one answer from every instruction set and
// number of threads, noise as the plain random stream has it.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>
#include <vector>

#include "check.hpp"
#include "core/engine.hpp"
#include "counting_allocator.hpp"
#include "cpu/kernels.hpp"
#include "dmpc/philox.hpp"
#include "tiny_model.hpp"

namespace {

using namespace dmpc;
using cpu::InstructionSet;
using cpu::Precision;

constexpr InstructionSet kSets[] = {InstructionSet::portable, InstructionSet::avx2,
                                    InstructionSet::avx512, InstructionSet::avx512_bf16};

/// A trajectory of one token in every network: no attention, value and projection as one matrix.
ModelSpec one_token_spec() {
    ModelSpec spec = test::tiny_spec();
    for (StageSpec& stage : spec.stages) {
        stage.patch = spec.horizon;
        stage.history_tokens = false;
        stage.layers = 2;
        stage.width = 21;
        stage.mlp = 37;
    }
    return spec;
}

/// A request of two robots and three groups, with the memory it points to.
struct Case {
    Case(const ModelSpec& shape, std::mt19937_64& random) : model(make_model(shape, random)) {
        const ModelSpec& spec = model.spec;
        std::normal_distribution<float> normal;
        const auto fill = [&](std::vector<float>& values, std::size_t size) {
            values.resize(size);
            for (float& value : values) value = normal(random);
        };
        const auto past = static_cast<std::size_t>(spec.history - 1);
        fill(states, kRobots * (past + 1) * spec.state_size);
        fill(actions, kRobots * past * spec.action_size);
        fill(context, kRobots * spec.context);
        fill(start, kRobots * std::size_t{5} * spec.horizon * spec.action_size);
        mask.assign(kRobots * past, 1.0f);
        groups = {{.count = 4},
                  {.count = 5, .proposal = &late, .start = start.data()},
                  {.count = 30, .dynamics = &late}};
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

    static Model make_model(const ModelSpec& shape, std::mt19937_64& random) {
        Model model = load_model(test::tiny_file(shape, random).joined());
        std::normal_distribution<float> normal;
        for (auto& [name, tensor] : model.tensors) {
            if (name.ends_with(".scale")) continue;
            for (float& value : tensor.values) value = 0.4f * normal(random);
        }
        return model;
    }

    Engine engine(const EngineOptions& options) const {
        return Engine(
            model.spec,
            [this](const std::string& name) { return model.tensor(name).values.data(); }, options);
    }

    static constexpr int kRobots = 2;
    Model model;
    std::vector<float> states, actions, mask, context, start;
    std::int64_t robots[kRobots] = {3, 65535}, plan_index[kRobots] = {0, 4294967295};
    SamplerSpec late{SamplerRule::consistency, {1.0, 0.5, 0.25}};
    std::vector<CandidateGroup> groups;
    PlanRequest request;
};

struct Result {
    explicit Result(const Case& given) {
        const ModelSpec& spec = given.model.spec;
        const auto count = static_cast<std::size_t>(Case::kRobots) * given.request.candidates();
        const float nan = std::nanf("");
        best.assign(Case::kRobots, -1);
        actions.assign(count * spec.horizon * spec.action_size, nan);
        states.assign(count * spec.horizon * spec.state_size, nan);
        scores.assign(count, nan);
    }
    PlanOutput output() {
        return {.best = best.data(),
                .actions = actions.data(),
                .states = states.data(),
                .scores = scores.data()};
    }

    std::vector<std::int64_t> best;
    std::vector<float> actions, states, scores;
};

void a_call_allocates_nothing(const Case& given, Precision precision, int threads) {
    Engine engine = given.engine({.precision = precision, .threads = threads});
    Result result(given);
    const Term terms[] = {{.kind = TermKind::learned_reward},
                          {.kind = TermKind::gaussian_target, .index = 1, .variance = 0.1},
                          {.kind = TermKind::state_bound, .index = 0, .high = 0.2}};
    engine.prepare(Case::kRobots, given.request.candidates(), 3, 16, 16, true);
    const long before = test::allocations.load();
    PlanRequest request = given.request;
    for (int i = 0; i < 50; ++i) {
        request.terms = i % 2 ? std::span<const Term>(terms) : std::span<const Term>();
        CHECK(engine.plan(request, result.output()) == Status::ok);
        request.deadline_s = i % 5 * 1e-5;
        CHECK(engine.plan(request, result.output()) == Status::ok);
        request.deadline_s = given.request.deadline_s;
        CHECK(engine.sample(request, result.actions.data()) == Status::ok);
        CHECK(engine.predict(request, result.actions.data(), result.states.data()) == Status::ok);
    }
    CHECK(test::allocations.load() == before);
}

/// Float32 number by number. Where a number may round the other way in bf16 or int8, which the next
/// steps amplify, in the mean: what is packed or read wrongly is wrong by as much as the numbers
/// are.
bool near(const std::vector<float>& expected, const std::vector<float>& given,
          Precision precision) {
    double size = 0, error = 0;
    bool each = true;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const double e = std::abs(expected[i] - given[i]);
        size += std::abs(expected[i]);
        error += e;
        each = each && e <= 1e-4 * (1.0 + std::abs(expected[i]));
    }
    if (precision == Precision::float32) return each;
    return error <= (precision == Precision::bfloat16 ? 0.02 : 0.1) * size;
}

void instruction_sets_and_threads_agree(const Case& given, Precision precision) {
    Result first(given);
    const EngineOptions portable{.precision = precision,
                                 .instruction_set = InstructionSet::portable};
    CHECK(given.engine(portable).plan(given.request, first.output()) == Status::ok);
    for (const InstructionSet set : kSets) {
        if (!cpu::select_kernels(set)) continue;
        for (const int threads : {1, 3}) {
            Result other(given);
            Engine engine =
                given.engine({.precision = precision, .instruction_set = set, .threads = threads});
            CHECK(engine.plan(given.request, other.output()) == Status::ok);
            CHECK(near(first.actions, other.actions, precision));
            CHECK(near(first.states, other.states, precision));
            CHECK(near(first.scores, other.scores, precision));
        }
    }
}

void noise_is_the_random_stream(std::mt19937_64& random) {
    for (const InstructionSet set : kSets) {
        const cpu::Kernels* kernels = cpu::select_kernels(set);
        if (!kernels) continue;
        for (const int count : {1, 3, 4, 65, 5000}) {
            const NoisePosition position{.seed = random(),
                                         .candidate = static_cast<std::uint32_t>(random() % 1000),
                                         .plan_index = 4294967295u,
                                         .robot = 65535,
                                         .stage = 1,
                                         .step = 255};
            std::vector<float> expected(count), given(count + 1, -7.0f);
            normals(position, expected);
            kernels->normals({.seed = position.seed,
                              .candidate = position.candidate,
                              .plan_index = position.plan_index,
                              .last_word = 65535u << 16 | 1u << 8 | 255u,
                              .count = count,
                              .out = given.data()});
            for (int i = 0; i < count; ++i) {
                const float bound = 6e-7f * std::abs(expected[i]) + 1e-12f;
                CHECK(std::abs(given[i] - expected[i]) <= bound);
            }
            CHECK(given[count] == -7.0f);
        }
    }
}

void bad_requests_are_refused(const Case& given) {
    Engine engine = given.engine({});
    Result result(given);
    PlanRequest request = given.request;
    request.groups = {};
    CHECK(engine.plan(request, result.output()) == Status::invalid_argument);
    request = given.request;
    request.robots = 0;
    CHECK(engine.plan(request, result.output()) == Status::invalid_argument);
    const Term outside{.kind = TermKind::speed, .index = given.model.spec.state_size};
    request = given.request;
    request.terms = {&outside, 1};
    CHECK(engine.plan(request, result.output()) == Status::invalid_argument);
    std::vector<float> states = given.states;
    states.back() = std::nanf("");
    request = given.request;
    request.states = states.data();
    CHECK(engine.plan(request, result.output()) == Status::not_finite);
    for (const std::int64_t robot : {std::int64_t{-1}, std::int64_t{kMaxRobot} + 1}) {
        const std::int64_t robots[] = {0, robot};
        request = given.request;
        request.robot_ids = robots;
        CHECK(engine.plan(request, result.output()) == Status::invalid_argument);
    }
    std::vector<float> start = given.start;
    start.back() = std::nanf("");
    std::vector<CandidateGroup> groups = given.groups;
    groups[1].start = start.data();
    request = given.request;
    request.groups = groups;
    CHECK(engine.plan(request, result.output()) == Status::not_finite);
}

}  // namespace

int main() {
    std::mt19937_64 random(std::random_device{}());
    const Case given(test::tiny_spec(), random), one_token(one_token_spec(), random);
    for (const Precision precision : {Precision::float32, Precision::bfloat16, Precision::int8}) {
        for (const int threads : {1, 2}) a_call_allocates_nothing(given, precision, threads);
        a_call_allocates_nothing(one_token, precision, 1);
        instruction_sets_and_threads_agree(given, precision);
        instruction_sets_and_threads_agree(one_token, precision);
    }
    noise_is_the_random_stream(random);
    bad_requests_are_refused(given);
    return 0;
}
