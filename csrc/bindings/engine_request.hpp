// A plan request as Python states it, checked and in the engine's own form.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/engine.hpp"

namespace dmpc::bindings {

namespace py = pybind11;

using Floats = py::array_t<float, py::array::c_style>;
using Integers = py::array_t<std::int64_t, py::array::c_style>;
using Levels = py::array_t<std::int8_t, py::array::c_style>;
using SamplerTuple = std::pair<std::string, std::vector<double>>;  // rule, angles
/// count, proposal sampler, dynamics sampler, start
using GroupTuple = std::tuple<int, std::optional<SamplerTuple>, std::optional<SamplerTuple>,
                              std::optional<Floats>>;
/// kind, weight, index, target, variance, low, high
using TermTuple = std::tuple<std::string, double, int, double, double, double, double>;

/// The value that stands beside `name`; throws std::invalid_argument that lists the known names.
template <class T>
T choose(const char* what, const std::string& name,
         std::span<const std::pair<const char*, T>> choices) {
    std::string known;
    for (const auto& [key, value] : choices) {
        if (name == key) return value;
        known.append(known.empty() ? "'" : ", '").append(key).append("'");
    }
    throw std::invalid_argument(std::string(what) + " must be one of " + known + ", got '" + name +
                                "'");
}

/// Throws std::invalid_argument, naming both shapes, unless they are one.
void check_shape(const char* name, const py::array& array, const std::vector<py::ssize_t>& shape);

/// A plan request from Python; owns or keeps alive all that the C++ request points to.
class Request {
public:
    Request(const ModelSpec& spec, const Floats& states, const Floats& actions, const Floats& mask,
            const Floats& context, std::uint64_t seed, const Integers& robots,
            const Integers& plan_index, const std::vector<GroupTuple>& groups,
            const std::optional<std::vector<TermTuple>>& terms, std::optional<double> deadline_s,
            const std::optional<Levels>& levels);

    /// Makes this the request of one robot that has no past and is now in `observation`. False, and
    /// nothing done, unless that is a contiguous vector of S finite numbers in float32 or float64.
    bool observe(const py::array& observation);

    std::vector<py::ssize_t> shape() const { return {trajectory_[0], trajectory_[1]}; }
    std::vector<py::ssize_t> shape(int size) const {
        return {trajectory_[0], trajectory_[1], trajectory_[2], size};
    }

    PlanRequest request;

private:
    const SamplerSpec* keep(const std::optional<SamplerTuple>& from);

    std::vector<py::array> kept_;
    std::vector<float> observed_, candidate_;  // (S): of `observe`, and what it is looking at
    std::vector<SamplerSpec> samplers_;
    std::vector<CandidateGroup> groups_;
    std::vector<Term> terms_;
    py::ssize_t trajectory_[3];
};

}  // namespace dmpc::bindings
