// The Python module _cuda, and _cuda_emulated for tests: the same code on another runtime.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "array.hpp"
#include "cuda/engine.hpp"
#if defined(DMPC_CUDA_EMULATED)
#include "cuda/emulated/device.hpp"
#include "cuda/emulated/runtime.hpp"
#endif

namespace dmpc::bindings {
namespace {

using cuda::EngineRequest;

/// The numbers of a C-contiguous array of T, whatever its shape.
template <class T>
std::vector<T> numbers(const char* name, const py::handle& value) {
    const auto array = py::cast<py::array>(value);
    if (!py::dtype::of<T>().equal(array.dtype()) || (array.flags() & py::array::c_style) == 0) {
        throw py::type_error(std::string(name) + " must be a C-contiguous array of " +
                             std::string(py::str(py::dtype::of<T>())));
    }
    const auto* data = static_cast<const T*>(array.data());
    return {data, data + array.size()};
}

std::vector<float> floats(const py::dict& from, const char* name) {
    return numbers<float>(name, from[name]);
}

cuda::NetworkModel network_from(const py::dict& d) {
    const auto size = [&](const char* name) { return py::cast<int>(d[name]); };
    cuda::NetworkModel n{
        size("layers"), size("width"),      size("heads"),       size("head_size"),   size("mlp"),
        size("patch"),  size("first_size"), size("second_size"), size("output_size"), {}};
    for (const auto& [name, array] : py::cast<py::dict>(d["tensors"])) {
        const auto key = py::cast<std::string>(name);
        n.tensors[key] = numbers<float>(key.c_str(), array);
    }
    return n;
}

cuda::EngineModel model_from(const py::dict& d) {
    cuda::EngineModel m{};
    m.horizon = py::cast<int>(d["horizon"]);
    m.state_size = py::cast<int>(d["state_size"]);
    m.action_size = py::cast<int>(d["action_size"]);
    m.condition_size = py::cast<int>(d["condition_size"]);
    for (const auto& network : py::cast<py::list>(d["networks"])) {
        m.networks.push_back(network_from(py::cast<py::dict>(network)));
    }
    m.action_mean = floats(d, "action_mean");
    m.action_scale = floats(d, "action_scale");
    m.action_low = floats(d, "action_low");
    m.action_high = floats(d, "action_high");
    m.state_mean = floats(d, "state_mean");
    m.state_scale = floats(d, "state_scale");
    m.reward_mean = py::cast<float>(d["reward_mean"]);
    m.reward_scale = py::cast<float>(d["reward_scale"]);
    m.value_mean = py::cast<float>(d["value_mean"]);
    m.value_scale = py::cast<float>(d["value_scale"]);
    m.discounts = floats(d, "discounts");
    return m;
}

cuda::SamplerModel sampler_from(const py::dict& d) {
    cuda::SamplerModel sampler;
    const std::vector<float> rows = floats(d, "rows");
    for (std::size_t i = 0; i + 2 < rows.size(); i += 3) {
        sampler.rows.push_back({rows[i], rows[i + 1], rows[i + 2]});
    }
    sampler.angles = floats(d, "angles");
    sampler.first_angle = py::cast<double>(d["first_angle"]);
    return sampler;
}

EngineRequest request_from(const py::dict& d) {
    EngineRequest r{};
    r.stages = py::cast<unsigned>(d["stages"]);
    r.robots = py::cast<int>(d["robots"]);
    r.condition = floats(d, "condition");
    r.seed = py::cast<std::uint64_t>(d["seed"]);
    r.plan_index = numbers<std::uint32_t>("plan_index", d["plan_index"]);
    r.robot = numbers<std::uint32_t>("robot", d["robot"]);
    for (const auto& item : py::cast<py::list>(d["groups"])) {
        const auto group = py::cast<py::dict>(item);
        r.groups.push_back(
            {py::cast<int>(group["count"]), sampler_from(py::cast<py::dict>(group["proposal"])),
             sampler_from(py::cast<py::dict>(group["dynamics"])), floats(group, "start")});
    }
    r.terms = floats(d, "terms");
    r.learned = py::cast<bool>(d["learned"]);
    r.actions = floats(d, "actions");
    r.states = floats(d, "states");
    return r;
}

/// dtype: what operands are rounded to. kind: the instruction, or "auto" for the device's best.
cuda::Product product_of(const std::string& dtype, const std::string& kind, int device) {
    if (kind != "auto" && kind != "mma" && kind != "wgmma") {
        throw py::value_error("product must be 'auto', 'mma' or 'wgmma', got '" + kind + "'");
    }
    if (dtype != "float32" && dtype != "tf32" && dtype != "bf16") {
        throw py::value_error("dtype must be 'float32', 'tf32' or 'bf16', got '" + dtype + "'");
    }
    const cuda::DeviceProperties properties = cuda::properties(device);
    const cuda::Product best = cuda::bf16_product(properties.major, properties.minor);
    if (kind == "wgmma" && (dtype != "bf16" || best != cuda::Product::wgmma_bf16)) {
        throw py::value_error(
            "product 'wgmma' needs dtype 'bf16' and a device of compute "
            "capability 9.0, got '" +
            dtype + "' and " + properties.name);
    }
    if (dtype == "tf32") return cuda::Product::mma_tf32;
    if (dtype == "float32") return cuda::Product::fma_float32;
    return kind == "mma" ? cuda::Product::mma_bf16 : best;
}

py::dict run(cuda::Engine& engine, const py::dict& given) {
    const EngineRequest request = request_from(given);
    cuda::EngineResult result;
    {
        const py::gil_scoped_release release;
        result = engine.run(request);
    }
    py::dict out;
    const auto put = [&](const char* name, auto& values) {
        const auto size = static_cast<std::int64_t>(values.size());
        out[name] = adopt(std::move(values), {size});
    };
    put("actions", result.actions);
    put("states", result.states);
    put("scores", result.scores);
    put("violations", result.violations);
    put("tie_breaks", result.tie_breaks);
    put("best", result.best);
    put("action", result.action);
    return out;
}

py::dict choose(cuda::Engine& engine, const py::dict& given) {
    const cuda::PlanChoice choice = engine.choose(request_from(given));
    py::dict out;
    out["candidates"] = choice.cut.candidates;
    out["cluster"] = choice.cut.sets * choice.cut.splits;
    out["sets"] = choice.cut.sets;
    out["apart"] = choice.cut.apart;
    out["shared_bytes"] = choice.shared.total;
    out["tiles"] = choice.tiles;
    out["tensor_s"] = choice.tensor_s;
    out["l2_s"] = choice.l2_s;
    out["sync_s"] = choice.sync_s;
    out["predicted_s"] = choice.predicted_s;
    out["fill"] = choice.fill;
    return out;
}

void define(py::module_& m) {
    m.attr("SAMPLE") = static_cast<unsigned>(cuda::kSample);
    m.attr("PREDICT") = static_cast<unsigned>(cuda::kPredict);
    m.attr("SCORE") = static_cast<unsigned>(cuda::kScore);
    m.attr("RANK") = static_cast<unsigned>(cuda::kRank);
    m.def("refusal", &cuda::refusal, "Why no device can be used; empty where one can.");
    py::class_<cuda::Engine>(m, "Engine")
        .def(py::init([](const py::dict& model, const std::string& dtype, int device,
                         const std::string& product, int candidates, int cluster, int sets,
                         bool apart, std::uintptr_t stream) {
                 const cuda::Product used = product_of(dtype, product, device);
                 if (sets > 1 && used != cuda::Product::wgmma_bf16) {
                     throw py::value_error("sets share weights by 'wgmma' alone, got sets " +
                                           std::to_string(sets));
                 }
                 if (apart && used == cuda::Product::wgmma_bf16) {
                     throw py::value_error("blocks that multiply by 'wgmma' are never apart");
                 }
                 return std::make_unique<cuda::Engine>(
                     model_from(model), used, device,
                     cuda::ForcedChoice{candidates, cluster, sets, apart},
                     reinterpret_cast<void*>(stream));
             }),
             py::arg("model"), py::arg("dtype"), py::arg("device") = 0, py::arg("product") = "auto",
             py::arg("candidates") = 0, py::arg("cluster") = 0, py::arg("sets") = 1,
             py::arg("apart") = false, py::arg("stream") = 0)
        .def("run", &run, py::arg("request"))
        .def("choose", &choose, py::arg("request"));
}

}  // namespace
}  // namespace dmpc::bindings

#if defined(DMPC_CUDA_EMULATED)
PYBIND11_MODULE(_cuda_emulated, m) {
    dmpc::bindings::define(m);
    m.def(
        "traffic",
        [] {
            const dmpc::cuda::emulated::Traffic& seen = dmpc::cuda::emulated::traffic();
            return std::tuple(seen.captures, seen.replays,
                              reinterpret_cast<std::uintptr_t>(seen.last_stream), seen.waits);
        },
        "Captures and replays of graphs, the stream of the last, and waits, up to now.");
    m.def("set_seed", &dmpc::cuda::emulated::set_seed, "Order of threads from now on.");
}
#else
PYBIND11_MODULE(_cuda, m) { dmpc::bindings::define(m); }
#endif
