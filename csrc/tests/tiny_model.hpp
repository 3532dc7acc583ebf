// Small models with random weights, and their files written byte by byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/json.hpp"
#include "dmpc/model_file.hpp"
#include "dmpc/spec.hpp"

namespace dmpc::test {

/// Odd sizes, every optional thing present once.
inline ModelSpec tiny_spec() {
    ModelSpec spec;
    spec.state_size = 3;
    spec.action_size = 2;
    spec.horizon = 4;
    spec.history = 2;
    spec.context = 1;
    spec.discount = 0.97;
    spec.termination_penalty = 3.0;
    for (StageSpec& stage : spec.stages) {
        stage.layers = 1;
        stage.width = 5;
        stage.heads = 3;
        stage.head_size = 2;
        stage.mlp = 7;
    }
    spec.stage(Stage::proposal).patch = 2;
    spec.stage(Stage::proposal).history_tokens = true;
    spec.stage(Stage::proposal).sampler = SamplerSpec{SamplerRule::ddim, {1.5, 0.75}};
    spec.stage(Stage::dynamics).positions = Positions::fourier;
    spec.stage(Stage::dynamics).sampler = SamplerSpec{SamplerRule::consistency, {1.25}};
    spec.stage(Stage::objective).members = 2;
    spec.environment.id = "Robot-v0 \xC3\xA9\"";
    spec.environment.observation_keys = {"position", "velocity"};
    spec.environment.action_low = {-0.5, std::nullopt};
    spec.environment.action_high = {0.5, 1e30};
    spec.environment.control_period_s = 0.008;
    spec.recommended.num_samples = 64;
    spec.recommended.num_elites = 1;
    spec.recommended.dtype = "bf16";
    spec.policy = PolicySpec{.layers = 2, .width = 6};
    spec.provenance = R"({"datasets": ["a/b-v0"], "seed": 18446744073709551615})";
    return spec;
}

struct FileParts {
    std::string header;
    std::vector<std::byte> data;

    std::vector<std::byte> joined() const {
        const std::uint64_t length = header.size();
        std::vector<std::byte> file(sizeof length + header.size());
        std::memcpy(file.data(), &length, sizeof length);
        std::memcpy(file.data() + sizeof length, header.data(), header.size());
        file.insert(file.end(), data.begin(), data.end());
        return file;
    }
};

/// A valid file: float32, the objective's second member in half precision.
inline FileParts tiny_file(const ModelSpec& spec, std::mt19937_64& random) {
    FileParts parts;
    json::Object header;
    header["__metadata__"] = {json::Object{{"dmpc", {spec.to_json()}}}};
    for (const auto& [name, shape] : spec.tensor_shapes()) {
        const bool half = name.starts_with("objective.1.");
        std::int64_t count = 1;
        json::Array sizes;
        for (const std::int64_t size : shape) {
            count *= size;
            sizes.push_back(json::number(size));
        }
        const auto begin = static_cast<std::int64_t>(parts.data.size());
        for (std::int64_t i = 0; i < count; ++i) {
            std::byte bytes[4];
            const std::size_t width = half ? 2 : 4;
            if (half) {
                const auto value = static_cast<std::uint16_t>(random() % 0x7C00u);
                std::memcpy(bytes, &value, sizeof value);
            } else {
                const float value = std::uniform_real_distribution<float>(0.5f, 2.0f)(random);
                std::memcpy(bytes, &value, sizeof value);
            }
            parts.data.insert(parts.data.end(), bytes, bytes + width);
        }
        const auto end = static_cast<std::int64_t>(parts.data.size());
        header[name] = {json::Object{
            {"dtype", {std::string(half ? "F16" : "F32")}},
            {"shape", {sizes}},
            {"data_offsets", {json::Array{json::number(begin), json::number(end)}}},
        }};
    }
    parts.header = json::write({header});
    return parts;
}

}  // namespace dmpc::test
