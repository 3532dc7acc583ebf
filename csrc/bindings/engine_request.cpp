#include "engine_request.hpp"

#include <cmath>

namespace dmpc::bindings {
namespace {

/// Whether `from` has finite numbers alone, as float32; they are left in `to`.
template <class T>
bool narrow(const void* from, std::vector<float>& to) {
    const T* values = static_cast<const T*>(from);
    bool finite = true;
    for (std::size_t i = 0; i < to.size(); ++i) {
        to[i] = static_cast<float>(values[i]);
        finite = finite && std::isfinite(to[i]);
    }
    return finite;
}

constexpr std::pair<const char*, TermKind> kTerms[] = {
    {"LearnedReward", TermKind::learned_reward},
    {"LearnedValue", TermKind::learned_value},
    {"Alive", TermKind::alive},
    {"GaussianTarget", TermKind::gaussian_target},
    {"QuadraticTarget", TermKind::quadratic_target},
    {"Speed", TermKind::speed},
    {"ActionCost", TermKind::action_cost},
    {"StateBound", TermKind::state_bound},
};

Term term(const TermTuple& from) {
    const auto& [kind, weight, index, target, variance, low, high] = from;
    return {.kind = choose<TermKind>("a term's kind", kind, kTerms),
            .weight = weight,
            .index = index,
            .target = target,
            .variance = variance,
            .low = low,
            .high = high};
}

constexpr std::pair<const char*, SamplerRule> kRules[] = {
    {"ddim", SamplerRule::ddim}, {"consistency", SamplerRule::consistency}};

SamplerSpec sampler(const SamplerTuple& from) {
    SamplerSpec result{choose<SamplerRule>("a sampler's rule", from.first, kRules), from.second};
    result.validate();
    return result;
}

}  // namespace

void check_shape(const char* name, const py::array& array, const std::vector<py::ssize_t>& shape) {
    const std::vector<py::ssize_t> given(array.shape(), array.shape() + array.ndim());
    if (given == shape) return;
    const auto text = [](const std::vector<py::ssize_t>& sizes) {
        std::string result = "(";
        for (const py::ssize_t size : sizes) result.append(std::to_string(size)).append(",");
        return result.append(")");
    };
    throw std::invalid_argument(std::string(name) + " must have the shape " + text(shape) +
                                ", got " + text(given));
}

Request::Request(const ModelSpec& spec, const Floats& states, const Floats& actions,
                 const Floats& mask, const Floats& context, std::uint64_t seed,
                 const Integers& robots, const Integers& plan_index,
                 const std::vector<GroupTuple>& groups,
                 const std::optional<std::vector<TermTuple>>& terms,
                 std::optional<double> deadline_s, const std::optional<Levels>& levels)
    : kept_{states, actions, mask, context, robots, plan_index},
      observed_(spec.state_size),
      candidate_(spec.history == 1 ? spec.state_size : 0) {
    const py::ssize_t count = states.ndim() > 0 ? states.shape(0) : 0;
    const py::ssize_t past = spec.history - 1;
    check_shape("states", states, {count, spec.history, spec.state_size});
    check_shape("actions", actions, {count, past, spec.action_size});
    check_shape("mask", mask, {count, past});
    check_shape("context", context, {count, spec.context});
    check_shape("robots", robots, {count});
    check_shape("plan_index", plan_index, {count});
    samplers_.reserve(2 * groups.size());
    for (const auto& [size, proposal, dynamics, start] : groups) {
        if (size < 1 || size > kMaxSamples) {
            throw std::invalid_argument("a group must have 1 to " + std::to_string(kMaxSamples) +
                                        " candidates, got " + std::to_string(size));
        }
        if (start) {
            check_shape("a group's start", *start, {count, size, spec.horizon, spec.action_size});
            kept_.push_back(*start);
        }
        groups_.push_back({.count = size,
                           .proposal = keep(proposal),
                           .dynamics = keep(dynamics),
                           .start = start ? start->data() : nullptr});
    }
    if (terms) {
        if (terms->empty()) throw std::invalid_argument("an objective needs a term, got none");
        for (const TermTuple& from : *terms) terms_.push_back(term(from));
    }
    request.robots = static_cast<int>(count);
    request.states = states.data();
    request.actions = actions.data();
    request.mask = mask.data();
    request.context = context.data();
    request.seed = seed;
    request.robot_ids = robots.data();
    request.plan_index = plan_index.data();
    request.groups = groups_;
    request.terms = terms_;
    if (deadline_s) request.deadline_s = *deadline_s;
    if (levels) {
        check_shape("levels", *levels, {count, request.candidates()});
        kept_.push_back(*levels);
        request.levels = levels->data();
    }
    trajectory_[0] = count;
    trajectory_[1] = request.candidates();
    trajectory_[2] = spec.horizon;
}

bool Request::observe(const py::array& observation) {
    constexpr int kPlain = int{py::array::c_style} | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    const bool fits = request.robots == 1 && !candidate_.empty() && observation.ndim() == 1 &&
                      observation.size() == static_cast<py::ssize_t>(candidate_.size()) &&
                      (observation.flags() & kPlain) == kPlain;
    if (!fits) return false;
    const py::dtype dtype = observation.dtype();
    const bool native = dtype.byteorder() == '=' && dtype.kind() == 'f';
    const bool narrowed =
        native && (dtype.itemsize() == 4   ? narrow<float>(observation.data(), candidate_)
                   : dtype.itemsize() == 8 ? narrow<double>(observation.data(), candidate_)
                                           : false);
    if (!narrowed) return false;
    observed_.swap(candidate_);
    request.states = observed_.data();
    return true;
}

const SamplerSpec* Request::keep(const std::optional<SamplerTuple>& from) {
    return from ? &samplers_.emplace_back(sampler(*from)) : nullptr;
}

}  // namespace dmpc::bindings
