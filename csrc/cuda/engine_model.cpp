// A model packed and copied to the device.
#include <cmath>
#include <stdexcept>

#include "arena.hpp"
#include "engine.hpp"
#include "packing.hpp"

namespace dmpc::cuda {
namespace {

const std::vector<float>& tensor(const NetworkModel& network, const std::string& name,
                                 std::int64_t size) {
    const auto found = network.tensors.find(name);
    if (found == network.tensors.end()) throw std::invalid_argument("no tensor " + name);
    if (static_cast<std::int64_t>(found->second.size()) != size) {
        throw std::invalid_argument("tensor " + name + " must hold " + std::to_string(size) +
                                    " numbers, got " + std::to_string(found->second.size()));
    }
    return found->second;
}

LayerShape shape_of(const NetworkModel& n) {
    return {n.width, round_up(n.width, kTile), n.heads, round_up(n.head_size, kTile),
            round_up(n.mlp, kTile)};
}

/// (inputs, outputs) of a linear map's weights (outputs, inputs).
std::vector<float> transposed(const std::vector<float>& values, int outputs, int inputs) {
    std::vector<float> result(values.size());
    for (int o = 0; o < outputs; ++o) {
        for (int i = 0; i < inputs; ++i) {
            result[static_cast<std::size_t>(std::int64_t{i} * outputs + o)] =
                values[static_cast<std::size_t>(std::int64_t{o} * inputs + i)];
        }
    }
    return result;
}

/// The four matrices of a layer, packed one after another.
void pack_layer(const NetworkModel& n, const std::string& prefix, Product p, std::uint8_t* to) {
    const LayerShape shape = shape_of(n);
    const int inner = n.heads * n.head_size, head = n.head_size, padded = shape.padded_head;
    const int width = n.width, mlp = n.mlp;
    const auto pack = [&](const char* name, int inputs, int outputs, MatrixSource source,
                          const PackedShape& packed) {
        source.values = tensor(n, prefix + name + ".weight", std::int64_t{inputs} * outputs);
        source.inputs = inputs;
        source.outputs = outputs;
        pack_matrix(source, packed, p, to);
        to += packed.bytes(p);
    };
    const MatrixSource wide{{}, 0, 0, width, shape.padded_width, width, shape.padded_width};
    MatrixSource qkv = wide, projection = wide, in = wide, out = wide;
    qkv.output_piece = head, qkv.output_padded = padded, qkv.heads = n.heads;
    projection.input_piece = head, projection.input_padded = padded;
    in.output_piece = mlp, in.output_padded = shape.padded_mlp;
    out.input_piece = mlp, out.input_padded = shape.padded_mlp;
    pack("qkv", width, 3 * inner, qkv, shape.qkv());
    pack("projection", inner, width, projection, shape.projection());
    pack("mlp_in", width, mlp, in, shape.mlp_in());
    pack("mlp_out", mlp, width, out, shape.mlp_out());
}

/// Biases of a layer in the order of `LayerShape::biases`.
void append_biases(const NetworkModel& n, const std::string& prefix, std::vector<float>& to) {
    const LayerShape shape = shape_of(n);
    const auto& qkv = tensor(n, prefix + "qkv.bias", 3 * n.heads * n.head_size);
    MatrixSource source{};
    source.output_piece = n.head_size, source.output_padded = shape.padded_head;
    source.heads = n.heads;
    for (int column = 0; column < shape.qkv().columns; ++column) {
        const int output = source.output_of(column);
        to.push_back(output < 0 ? 0.0f : qkv[static_cast<std::size_t>(output)]);
    }
    const auto& in = tensor(n, prefix + "mlp_in.bias", n.mlp);
    to.insert(to.end(), in.begin(), in.end());
    to.insert(to.end(), static_cast<std::size_t>(shape.padded_mlp - n.mlp), 0.0f);
    for (const char* name : {"projection.bias", "mlp_out.bias"}) {
        const auto& bias = tensor(n, prefix + name, n.width);
        to.insert(to.end(), bias.begin(), bias.end());
    }
}

}  // namespace

Engine::Engine(EngineModel model, Product product, int device, ForcedChoice forced, void* stream)
    : model_(std::move(model)),
      product_(product),
      device_(device),
      forced_(forced),
      properties_(properties(device)) {
    use(device_);
    load();
    // Captures happen here, whoever may be using the stream that plans run on.
    own_stream_ = make_stream();
    stream_ = stream != nullptr ? stream : own_stream_;
}

Engine::~Engine() { destroy_stream(own_stream_); }

void Engine::load() {
    std::vector<std::uint8_t> bytes;
    for (const NetworkModel& network : model_.networks) {
        places_.push_back(load_network(network, bytes));
    }
    const float infinity = std::numeric_limits<float>::infinity();
    std::vector<float> units;
    const auto add = [&](const std::vector<float>& values) {
        units.insert(units.end(), values.begin(), values.end());
    };
    const auto states = static_cast<std::size_t>(model_.state_size);
    for (const auto* values : {&model_.action_mean, &model_.action_scale, &model_.action_low,
                               &model_.action_high, &model_.state_mean, &model_.state_scale}) {
        add(*values);
    }
    add(std::vector<float>(states, -infinity));
    add(std::vector<float>(states, infinity));
    units_ = append(bytes, units);
    std::vector<float> discounts = model_.discounts;
    for (const float power : model_.discounts) discounts.push_back(std::log(power));
    discounts_ = append(bytes, discounts);
    copy_to_device(weights_.at_least(bytes.size()), bytes.data(), bytes.size(), nullptr);
    wait_for(nullptr);
}

Engine::Places Engine::load_network(const NetworkModel& n, std::vector<std::uint8_t>& bytes) const {
    Places places{};
    const int tokens = model_.horizon / n.patch,
              features = n.patch * (n.first_size + n.second_size);
    const int outputs = n.patch * n.output_size, width = n.width;
    const auto keep = [&](const std::string& name, std::int64_t size) {
        places.tensors[name] = append(bytes, tensor(n, name, size));
    };
    places.token = append(
        bytes,
        transposed(tensor(n, "token.weight", std::int64_t{width} * features), width, features));
    keep("token.bias", width);
    keep("positions", std::int64_t{tokens} * width);
    if (n.tensors.contains("history.weight")) {
        keep("history.weight", std::int64_t{width} * model_.condition_size);
    }
    keep("condition.history.weight", std::int64_t{width} * model_.condition_size);
    keep("condition.history.bias", width);
    keep("condition.out.weight", std::int64_t{width} * width);
    keep("condition.out.bias", width);
    keep("final.out.weight", std::int64_t{outputs} * width);
    keep("final.out.bias", outputs);
    std::vector<float> modulation, modulation_bias, biases;
    const LayerShape shape = shape_of(n);
    const auto layer_bytes = static_cast<std::size_t>(shape.bytes(product_));
    std::vector<std::uint8_t> weights(layer_bytes * static_cast<std::size_t>(n.layers));
    for (int layer = 0; layer <= n.layers; ++layer) {
        const bool last = layer == n.layers;
        const std::string prefix = last ? "final." : "blocks." + std::to_string(layer) + ".";
        const int size = (last ? 2 : 6) * width;
        const auto& weight = tensor(n, prefix + "modulation.weight", std::int64_t{size} * width);
        const auto& bias = tensor(n, prefix + "modulation.bias", size);
        modulation.insert(modulation.end(), weight.begin(), weight.end());
        modulation_bias.insert(modulation_bias.end(), bias.begin(), bias.end());
        if (last) break;
        pack_layer(n, prefix, product_,
                   weights.data() + layer_bytes * static_cast<std::size_t>(layer));
        append_biases(n, prefix, biases);
    }
    places.weights = append(bytes, weights);
    places.biases = append(bytes, biases);
    places.modulation = append(bytes, modulation);
    places.modulation_bias = append(bytes, modulation_bias);
    return places;
}

Network Engine::network_of(std::size_t index, const std::uint8_t* base) const {
    const NetworkModel& m = model_.networks[index];
    const Places& places = places_[index];
    const LayerShape shape = shape_of(m);
    const auto at = [&](std::size_t place) { return reinterpret_cast<const float*>(base + place); };
    const auto named = [&](const char* name) { return at(places.tensors.at(name)); };
    Network n{};
    n.layers = m.layers, n.width = m.width, n.heads = m.heads, n.head_size = m.head_size;
    n.mlp = m.mlp, n.patch = m.patch, n.tokens = model_.horizon / m.patch;
    n.first_size = m.first_size, n.second_size = m.second_size;
    n.outputs = m.patch * m.output_size;
    n.padded_width = shape.padded_width, n.padded_head = shape.padded_head;
    n.padded_mlp = shape.padded_mlp;
    n.condition_size = model_.condition_size;
    n.token = at(places.token), n.token_bias = named("token.bias");
    n.token_history = places.tensors.contains("history.weight") ? named("history.weight") : nullptr;
    n.positions = named("positions");
    n.final_out = named("final.out.weight"), n.final_bias = named("final.out.bias");
    n.weights = base + places.weights, n.biases = at(places.biases);
    n.history = named("condition.history.weight");
    n.history_bias = named("condition.history.bias");
    n.embed = named("condition.out.weight"), n.embed_bias = named("condition.out.bias");
    n.modulation = at(places.modulation), n.modulation_bias = at(places.modulation_bias);
    return n;
}

}  // namespace dmpc::cuda
