#include "planner_binding.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>

#include "dmpc/planner.hpp"

namespace py = pybind11;

namespace dmpc::bindings {
namespace {

using Floats = py::array_t<float, py::array::c_style>;

std::span<const float> view(const std::optional<Floats>& array) {
    if (!array) return {};
    return {array->data(), static_cast<std::size_t>(array->size())};
}

Planner load(const std::filesystem::path& path, int num_samples, int action_chunk, int num_elites,
             std::uint64_t seed, const std::string& dtype, int threads, const std::string& mode,
             double deadline_s, int search_rounds, double search_angle, int search_parents,
             std::optional<int> search_children) {
    std::optional<IteratedSearch> search;
    if (search_rounds != 0) {
        search = IteratedSearch{search_rounds, search_angle, search_parents, search_children};
    }
    return Planner::load(path, {.num_samples = num_samples,
                                .action_chunk = action_chunk,
                                .num_elites = num_elites,
                                .num_threads = threads,
                                .seed = seed,
                                .dtype = dtype,
                                .deadline_s = deadline_s,
                                .mode = mode == "policy" ? Mode::policy : Mode::plan,
                                .search = search});
}

Floats act(Planner& planner, const Floats& observation, const std::optional<Floats>& previous,
           const std::optional<Floats>& context) {
    Floats action(planner.spec().action_size);
    const std::span<float> out(action.mutable_data(), static_cast<std::size_t>(action.size()));
    const Situation situation{.context = view(context), .previous_action = view(previous)};
    const std::span<const float> in = view(observation);
    Status status;
    {
        const py::gil_scoped_release release;
        status = planner.act(in, out, situation);
    }
    if (status != Status::ok) throw std::invalid_argument(message(status));
    return action;
}

}  // namespace

void bind_planner(py::module_& module) {
    using py::arg;
    py::class_<Planner>(module, "Planner", "dmpc::Planner, for comparison with the package's own.")
        .def_static(
            "load", &load, arg("path"), py::kw_only(), arg("num_samples"), arg("action_chunk"),
            arg("num_elites") = 1, arg("seed"), arg("dtype"), arg("threads"), arg("mode") = "plan",
            arg("deadline_s") = std::numeric_limits<double>::infinity(), arg("search_rounds") = 0,
            arg("search_angle") = IteratedSearch{}.angle,
            arg("search_parents") = IteratedSearch{}.parents, arg("search_children") = py::none())
        .def("act", &act, arg("observation").noconvert(),
             arg("previous_action").noconvert() = py::none(),
             arg("context").noconvert() = py::none())
        .def_property_readonly("source",
                               [](const Planner& planner) {
                                   constexpr const char* names[] = {"planned", "carried", "policy"};
                                   return names[static_cast<int>(planner.source())];
                               })
        .def("reset", py::overload_cast<>(&Planner::reset));
}

}  // namespace dmpc::bindings
