// The Python module _engine: model files, the random stream and sampler rows of the native half.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>
#include <system_error>

#include "array.hpp"
#include "core/sampler.hpp"
#include "dmpc/model_file.hpp"
#include "dmpc/philox.hpp"
#include "engine_binding.hpp"
#include "planner_binding.hpp"

namespace dmpc::bindings {
namespace {

/// C++ errors as Python's own: a wrong file is the ModelFileError of dmpc_fast/spec.py.
void translate(std::exception_ptr pointer) {
    try {
        if (pointer) std::rethrow_exception(pointer);
    } catch (const ModelFileError& error) {
        const py::object type = py::module_::import("dmpc_fast.spec").attr("ModelFileError");
        py::set_error(type, py::str(error.what(), std::strlen(error.what())));
    } catch (const std::system_error& error) {
        // Becomes the subclass that belongs to the number: FileNotFoundError and so on.
        PyErr_SetObject(PyExc_OSError, py::make_tuple(error.code().value(), error.what()).ptr());
    }
}

py::dict to_python(Model&& model) {
    py::dict tensors;
    for (auto& [name, tensor] : model.tensors) {
        tensors[py::str(name)] = adopt(std::move(tensor.values), tensor.shape);
    }
    py::dict result;
    result["spec_json"] = model.spec.to_json();
    result["tensors"] = tensors;
    return result;
}

py::dict read_model(const std::filesystem::path& path) {
    Model model;
    {
        const py::gil_scoped_release release;
        model = load_model(path);
    }
    return to_python(std::move(model));
}

void validate_model(const py::bytes& content) {
    const std::string_view view = content;
    const py::gil_scoped_release release;
    static_cast<void>(load_model(std::as_bytes(std::span(view))));
}

py::array_t<std::uint32_t> philox(const py::array& counter, std::uint64_t seed) {
    const std::span<const std::uint32_t> words =
        input<std::uint32_t>("counter", counter, {kAny, 4});
    std::vector<std::uint32_t> result(words.size());
    {
        const py::gil_scoped_release release;
        for (std::size_t i = 0; i < words.size(); i += 4) {
            const PhiloxCounter out =
                philox4x32({words[i], words[i + 1], words[i + 2], words[i + 3]}, seed);
            std::copy(out.begin(), out.end(), result.begin() + static_cast<std::ptrdiff_t>(i));
        }
    }
    return adopt(std::move(result), {counter.shape(0), 4});
}

template <class T>
T narrow(const char* name, std::int64_t value) {
    if (value < 0 || value > std::int64_t{std::numeric_limits<T>::max()}) {
        throw py::value_error(std::string(name) + " must be from 0 to " +
                              std::to_string(std::numeric_limits<T>::max()) + ", got " +
                              std::to_string(value));
    }
    return static_cast<T>(value);
}

py::array_t<float> stream_normals(std::uint64_t seed, const py::array& candidates,
                                  std::int64_t plan_index, std::int64_t robot, std::int64_t stage,
                                  std::int64_t step, std::int64_t steps, std::int64_t size) {
    const std::span<const std::uint32_t> numbers =
        input<std::uint32_t>("candidates", candidates, {kAny});
    NoisePosition position{.seed = seed,
                           .plan_index = static_cast<std::uint32_t>(plan_index),
                           .robot = narrow<std::uint16_t>("robot", robot),
                           .stage = narrow<std::uint8_t>("stage", stage),
                           .step = narrow<std::uint8_t>("step", step)};
    const std::size_t count =
        std::size_t{narrow<std::uint32_t>("steps", steps)} * narrow<std::uint32_t>("size", size);
    std::vector<float> result(numbers.size() * count);
    {
        const py::gil_scoped_release release;
        for (std::size_t i = 0; i < numbers.size(); ++i) {
            position.candidate = numbers[i];
            normals(position, std::span(result).subspan(i * count, count));
        }
    }
    return adopt(std::move(result), {candidates.shape(0), steps, size});
}

py::array_t<double> sampler_rows(std::string_view rule, const std::vector<double>& angles) {
    if (rule != "ddim" && rule != "consistency") {
        throw ModelFileError("sampler.rule must be 'ddim' or 'consistency', got '" +
                             std::string(rule) + "'");
    }
    const SamplerSpec sampler{rule == "ddim" ? SamplerRule::ddim : SamplerRule::consistency,
                              angles};
    sampler.validate();
    std::vector<double> rows;
    for (int i = 0; i < static_cast<int>(angles.size()); ++i) {
        const SamplerRow row = compile_row(sampler, i);
        rows.insert(rows.end(), {row.t, row.s, row.a, row.b, row.noise});
    }
    return adopt(std::move(rows), {static_cast<std::int64_t>(angles.size()), 5});
}

}  // namespace
}  // namespace dmpc::bindings

PYBIND11_MODULE(_engine, m) {
    using namespace dmpc::bindings;
    namespace py = pybind11;

    m.doc() = "The native half of dmpc_fast.";
    py::register_local_exception_translator(&translate);
    m.def("read_model", &read_model, py::arg("path"),
          "The description (JSON text) and tensors (float32) of a model file.");
    m.def("validate_model", &validate_model, py::arg("content"),
          "Raises ModelFileError unless `content` is a valid model file.");
    m.def("philox", &philox, py::arg("counter").noconvert(), py::arg("seed"),
          "Random words (n, 4) of counters (n, 4), uint32.");
    m.def("normals", &stream_normals, py::kw_only(), py::arg("seed"),
          py::arg("candidates").noconvert(), py::arg("plan_index"), py::arg("robot"),
          py::arg("stage"), py::arg("step"), py::arg("steps"), py::arg("size"),
          "Standard normals of the random stream, float32 (candidates, steps, size).");
    m.def("sampler_rows", &sampler_rows, py::arg("rule"), py::arg("angles"),
          "Rows (t, s, a, b, noise) of a sampler, float64 (angles, 5).");
    m.def("spec_fields", &dmpc::spec_fields, "Field names of the description's parts, as read.");
    bind_engine(m);
    bind_planner(m);
}
