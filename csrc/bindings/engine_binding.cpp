#include "engine_binding.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/engine.hpp"
#include "engine_request.hpp"

namespace dmpc::bindings {
namespace {

constexpr std::pair<const char*, cpu::InstructionSet> kInstructionSets[] = {
    {"auto", cpu::InstructionSet::automatic},
    {"portable", cpu::InstructionSet::portable},
    {"avx2", cpu::InstructionSet::avx2},
    {"avx512", cpu::InstructionSet::avx512},
    {"avx512_bf16", cpu::InstructionSet::avx512_bf16},
};

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const auto& [name, set] : kInstructionSets) {
        if (cpu::select_kernels(set)) names.emplace_back(name);
    }
    return names;
}

cpu::InstructionSet instruction_set(const std::string& name) {
    return choose<cpu::InstructionSet>("instruction_set", name, kInstructionSets);
}

cpu::Precision precision(const std::string& name) {
    using cpu::Precision;
    static constexpr std::pair<const char*, Precision> kNames[] = {
        {"float32", Precision::float32}, {"bf16", Precision::bfloat16}, {"int8", Precision::int8}};
    return choose<Precision>("dtype", name, kNames);
}

void raise(Status status) {
    // Without a usable candidate the result is still what the model gave: the planner judges it.
    if (status == Status::ok || status == Status::no_candidate) return;
    if (status == Status::too_large) throw std::bad_alloc();
    const bool callers = status == Status::not_finite || status == Status::wrong_size ||
                         status == Status::invalid_argument;
    if (callers) throw std::invalid_argument(message(status));
    throw std::runtime_error(message(status));
}

/// Room for all that a plan leaves, as arrays of the caller.
class Planned {
public:
    Planned(const ModelSpec& spec, const Request& request)
        : best_(request.shape()[0]),
          actions_(request.shape(spec.action_size)),
          states_(request.shape(spec.state_size)),
          scores_(request.shape()),
          violations_(request.shape()),
          levels_(request.shape()) {}

    PlanOutput output() {
        return {.best = best_.mutable_data(),
                .actions = actions_.mutable_data(),
                .states = states_.mutable_data(),
                .scores = scores_.mutable_data(),
                .violations = violations_.mutable_data(),
                .levels = levels_.mutable_data(),
                .level = &level_};
    }

    py::tuple tuple() const {
        return py::make_tuple(
            best_, actions_, states_, scores_, violations_, levels_,
            py::make_tuple(level_.candidates, level_.full, level_.proposal_steps,
                           level_.dynamics_steps, level_.complete, level_.missed));
    }

private:
    Integers best_;
    Floats actions_, states_, scores_, violations_;
    Levels levels_;
    Level level_;
};

class PyEngine {
public:
    PyEngine(const std::string& spec, const py::dict& tensors, const std::string& dtype,
             int threads, const std::string& set, bool spin, bool pin) {
        const ModelSpec parsed = ModelSpec::from_json(spec);
        for (const auto& [name, shape] : parsed.tensor_shapes()) {
            if (!tensors.contains(name)) throw std::invalid_argument("tensors lack '" + name + "'");
            const py::object tensor = tensors[py::str(name)];
            if (!py::isinstance<Floats>(tensor)) {
                throw std::invalid_argument("tensor '" + name +
                                            "' must be a C-contiguous float32 array");
            }
            check_shape(name.c_str(), py::cast<Floats>(tensor), {shape.begin(), shape.end()});
        }
        const auto lookup = [&](const std::string& name) {
            return py::cast<Floats>(tensors[py::str(name)]).data();
        };
        engine_ = std::make_unique<Engine>(parsed, lookup,
                                           EngineOptions{.precision = precision(dtype),
                                                         .instruction_set = instruction_set(set),
                                                         .threads = threads,
                                                         .idle = spin ? Idle::spin : Idle::sleep,
                                                         .pin = pin});
    }

    Request request(const Floats& states, const Floats& actions, const Floats& mask,
                    const Floats& context, std::uint64_t seed, const Integers& robots,
                    const Integers& plan_index, const std::vector<GroupTuple>& groups,
                    const std::optional<std::vector<TermTuple>>& terms,
                    std::optional<double> deadline_s, const std::optional<Levels>& levels) const {
        return {engine_->spec(), states,     actions, mask,  context,    seed,
                robots,          plan_index, groups,  terms, deadline_s, levels};
    }

    Floats sample(const Request& request) {
        Floats actions(request.shape(engine_->spec().action_size));
        float* out = actions.mutable_data();
        raise(call([&] { return engine_->sample(request.request, out); }));
        return actions;
    }

    Floats predict(const Request& request, const Floats& actions) {
        check_shape("actions", actions, request.shape(engine_->spec().action_size));
        Floats states(request.shape(engine_->spec().state_size));
        const float* in = actions.data();
        float* out = states.mutable_data();
        raise(call([&] { return engine_->predict(request.request, in, out); }));
        return states;
    }

    py::tuple score(const Request& request, const Floats& states, const Floats& actions) {
        check_shape("states", states, request.shape(engine_->spec().state_size));
        check_shape("actions", actions, request.shape(engine_->spec().action_size));
        Floats scores(request.shape()), violations(request.shape()), ties(request.shape());
        const PlanOutput output{.scores = scores.mutable_data(),
                                .violations = violations.mutable_data(),
                                .tie_breaks = ties.mutable_data()};
        const float* s = states.data();
        const float* a = actions.data();
        raise(call([&] { return engine_->score(request.request, s, a, output); }));
        return py::make_tuple(scores, violations, ties);
    }

    py::tuple plan(const Request& request) {
        Planned planned(engine_->spec(), request);
        const PlanOutput output = planned.output();
        raise(call([&] { return engine_->plan(request.request, output); }));
        return planned.tuple();
    }

    /// `plan` of a request that observed something, and what is run of it, the mean of its elites,
    /// to `chosen`; None, and `chosen` as it was, where no candidate can be run.
    std::optional<py::tuple> follow(Request& request, Floats& chosen, int num_elites,
                                    double deadline_s) {
        const ModelSpec& spec = engine_->spec();
        check_shape("chosen", chosen, {1, spec.horizon, spec.action_size});
        request.request.num_elites = num_elites;
        request.request.deadline_s = deadline_s;
        Planned planned(spec, request);
        PlanOutput output = planned.output();
        output.run_actions = chosen.mutable_data();
        const Status status = call([&] { return engine_->plan(request.request, output); });
        if (status == Status::no_candidate) return std::nullopt;
        raise(status);
        return planned.tuple();
    }

    Floats react(const Floats& states, const Floats& actions, const Floats& mask,
                 const Floats& context) {
        const ModelSpec& spec = engine_->spec();
        const py::ssize_t robots = states.ndim() > 0 ? states.shape(0) : 0;
        const py::ssize_t past = spec.history - 1;
        check_shape("states", states, {robots, spec.history, spec.state_size});
        check_shape("actions", actions, {robots, past, spec.action_size});
        check_shape("mask", mask, {robots, past});
        check_shape("context", context, {robots, spec.context});
        Floats chosen({robots, py::ssize_t{spec.action_size}});
        const PlanRequest request{.robots = static_cast<int>(robots),
                                  .states = states.data(),
                                  .actions = actions.data(),
                                  .mask = mask.data(),
                                  .context = context.data()};
        float* out = chosen.mutable_data();
        raise(call([&] { return engine_->react(request, out); }));
        return chosen;
    }

    /// The policy's action (A) for what the request observed; None where it is not finite.
    std::optional<Floats> respond(const Request& request) {
        Floats action(py::ssize_t{engine_->spec().action_size});
        float* out = action.mutable_data();
        const Status status = call([&] { return engine_->react(request.request, out); });
        if (status == Status::no_candidate) return std::nullopt;
        raise(status);
        return action;
    }

    double least_seconds(int robots, int candidates) const {
        return engine_->least_seconds(robots, candidates);
    }
    void skip() { engine_->skip(); }

    std::string instruction_set_name() const { return engine_->kernels().name; }
    int threads() const { return engine_->threads(); }

private:
    /// Without the interpreter's lock; calls from several threads take turns.
    template <class Function>
    Status call(Function function) {
        const py::gil_scoped_release release;
        const std::lock_guard<std::mutex> turn(mutex_);
        return function();
    }

    std::unique_ptr<Engine> engine_;
    std::mutex mutex_;
};

}  // namespace

void bind_engine(py::module_& module) {
    using py::arg;
    module.def("instruction_sets", &instruction_sets,
               "Names that `instruction_set` may have on this machine.");
    py::class_<Request>(module, "PlanRequest", "A request in the engine's own form; see base.py.")
        .def("observe", &Request::observe, arg("observation"));
    py::class_<PyEngine>(module, "Engine", "Plans of one model on the CPU, without Python inside.")
        .def(py::init<const std::string&, const py::dict&, const std::string&, int,
                      const std::string&, bool, bool>(),
             arg("spec"), arg("tensors"), arg("dtype"), py::kw_only(), arg("threads"),
             arg("instruction_set"), arg("spin"), arg("pin"))
        .def("request", &PyEngine::request, arg("states").noconvert(), arg("actions").noconvert(),
             arg("mask").noconvert(), arg("context").noconvert(), arg("seed"),
             arg("robots").noconvert(), arg("plan_index").noconvert(), arg("groups").noconvert(),
             arg("terms"), arg("deadline_s") = py::none(), arg("levels").noconvert() = py::none())
        .def("sample", &PyEngine::sample, arg("request"))
        .def("predict", &PyEngine::predict, arg("request"), arg("actions").noconvert())
        .def("score", &PyEngine::score, arg("request"), arg("states").noconvert(),
             arg("actions").noconvert())
        .def("plan", &PyEngine::plan, arg("request"))
        .def("follow", &PyEngine::follow, arg("request"), arg("chosen").noconvert(),
             arg("num_elites"), arg("deadline_s"))
        .def("react", &PyEngine::react, arg("states").noconvert(), arg("actions").noconvert(),
             arg("mask").noconvert(), arg("context").noconvert())
        .def("respond", &PyEngine::respond, arg("request"))
        .def("least_seconds", &PyEngine::least_seconds, arg("robots"), arg("candidates"))
        .def("skip", &PyEngine::skip)
        .def_property_readonly("instruction_set", &PyEngine::instruction_set_name)
        .def_property_readonly("threads", &PyEngine::threads);
}

}  // namespace dmpc::bindings
