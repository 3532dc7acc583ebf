#include "dmpc/spec.hpp"

#include <cmath>
#include <limits>
#include <numbers>

namespace dmpc {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLargestFloat = std::numeric_limits<float>::max();
// The file keeps decimal digits: allow the last one of pi/2 to be rounded up.
constexpr double kMaxAngle = std::numbers::pi / 2 + 1e-9;

std::string text_of(double value) {
    std::string text = std::to_string(value);
    return std::abs(value) < 1e12 ? text : text.substr(0, text.find('.'));
}

void check_integer(const std::string& name, std::int64_t value, std::int64_t low,
                   std::int64_t high) {
    if (value >= low && value <= high) return;
    throw ModelFileError(name + " must be an integer from " + std::to_string(low) + " to " +
                         std::to_string(high) + ", got " + std::to_string(value));
}

void check_number(const std::string& name, double value, double low = -kInfinity,
                  double high = kInfinity) {
    if (std::isfinite(value) && value >= low && value <= high) return;
    throw ModelFileError(name + " must be a finite number from " + text_of(low) + " to " +
                         text_of(high) + ", got " + text_of(value));
}

void check_stage(const StageSpec& stage) {
    check_integer("layers", stage.layers, 1, kMaxLayers);
    check_integer("width", stage.width, 1, kMaxDimension);
    check_integer("heads", stage.heads, 1, kMaxDimension);
    check_integer("head_size", stage.head_size, 1, kMaxDimension);
    check_integer("mlp", stage.mlp, 1, kMaxDimension);
    check_integer("heads x head_size", std::int64_t{stage.heads} * stage.head_size, 1,
                  kMaxDimension);
    check_integer("patch", stage.patch, 1, kMaxHorizon);
    check_integer("members", stage.members, 1, kMaxMembers);
    if (stage.sampler) stage.sampler->validate();
}

void check_environment(const EnvironmentSpec& environment, int action_size) {
    const auto& [id, keys, low, high, period] = environment;
    if (id && id->size() > kMaxText) {
        throw ModelFileError("environment.id must be at most " + std::to_string(kMaxText) +
                             " bytes long");
    }
    for (const auto& [name, bounds] : {std::pair{"low", &low}, std::pair{"high", &high}}) {
        if (bounds->size() != static_cast<std::size_t>(action_size)) {
            throw ModelFileError("environment.action_" + std::string(name) + " must have " +
                                 std::to_string(action_size) + " entries, got " +
                                 std::to_string(bounds->size()));
        }
    }
    for (std::size_t i = 0; i < low.size(); ++i) {
        const std::string at = "[" + std::to_string(i) + "]";
        if (low[i]) {
            check_number("environment.action_low" + at, *low[i], -kLargestFloat, kLargestFloat);
        }
        if (high[i]) {
            check_number("environment.action_high" + at, *high[i], -kLargestFloat, kLargestFloat);
        }
        if (low[i] && high[i] && !(*low[i] < *high[i])) {
            throw ModelFileError("environment: action bound " + std::to_string(i) +
                                 " must have low < high, got " + text_of(*low[i]) + " and " +
                                 text_of(*high[i]));
        }
    }
    check_number("environment.control_period_s", period, 0.0, 1e6);
    if (period <= 0) throw ModelFileError("environment.control_period_s must be positive, got 0");
}

void check_recommended(const Recommended& recommended, int horizon) {
    if (recommended.num_samples) {
        check_integer("recommended.num_samples", *recommended.num_samples, 1, kMaxSamples);
    }
    if (recommended.action_chunk) {
        check_integer("recommended.action_chunk", *recommended.action_chunk, 1, horizon);
    }
    if (recommended.num_elites) {
        check_integer("recommended.num_elites", *recommended.num_elites, 1, kMaxElites);
    }
    const auto& dtype = recommended.dtype;
    if (dtype && *dtype != "float32" && *dtype != "bf16" && *dtype != "int8") {
        throw ModelFileError("recommended.dtype must be 'float32', 'bf16' or 'int8', got '" +
                             dtype->substr(0, 80) + "'");
    }
}

}  // namespace

std::string_view name_of(Stage stage) noexcept {
    constexpr std::array<std::string_view, kStages.size()> names{"proposal", "dynamics",
                                                                 "objective"};
    return names[static_cast<std::size_t>(stage)];
}

std::string_view name_of(SamplerRule rule) noexcept {
    return rule == SamplerRule::ddim ? "ddim" : "consistency";
}

std::string_view name_of(Positions positions) noexcept {
    return positions == Positions::learned ? "learned" : "fourier";
}

void SamplerSpec::validate() const {
    if (angles.empty() || angles.size() > static_cast<std::size_t>(kMaxSamplerSteps)) {
        throw ModelFileError("sampler.angles must hold 1 to " + std::to_string(kMaxSamplerSteps) +
                             " angles, got " + std::to_string(angles.size()));
    }
    double previous = kInfinity;
    for (const double angle : angles) {
        check_number("sampler.angles", angle, 0.0, kMaxAngle);
        if (!(angle > 0.0 && angle < previous)) {
            throw ModelFileError("sampler.angles must fall strictly and stay above 0, got " +
                                 text_of(angle));
        }
        previous = angle;
    }
}

void ModelSpec::validate() const {
    if (format_version != kFormatVersion) {
        throw ModelFileError("format_version " + std::to_string(format_version) +
                             " is not supported: this package reads version " +
                             std::to_string(kFormatVersion));
    }
    check_integer("state_size", state_size, 1, kMaxDimension);
    check_integer("action_size", action_size, 1, kMaxDimension);
    check_integer("horizon", horizon, 1, kMaxHorizon);
    check_integer("history", history, 1, kMaxHistory);
    check_integer("context", context, 0, kMaxDimension);
    check_integer("condition size", condition_size(), 1, kMaxCondition);
    check_number("discount", discount, 0.0, 1.0);
    if (discount == 0.0) throw ModelFileError("discount must lie in (0, 1], got 0");
    check_number("termination_penalty", termination_penalty, 0.0, 1e12);
    for (const Stage name : kStages) {
        const StageSpec& sizes = stage(name);
        const std::string where = "stages." + std::string(name_of(name)) + ": ";
        try {
            check_stage(sizes);
        } catch (const ModelFileError& error) {
            throw ModelFileError(where + error.what());
        }
        if (horizon % sizes.patch != 0) {
            throw ModelFileError(where + "horizon " + std::to_string(horizon) +
                                 " is not a multiple of patch " + std::to_string(sizes.patch));
        }
        if (sizes.sampler.has_value() == (name == Stage::objective)) {
            throw ModelFileError(where + "a sampler belongs to proposal and dynamics only");
        }
        if (sizes.members != 1 && name != Stage::objective) {
            throw ModelFileError(where + "members must be 1, got " + std::to_string(sizes.members));
        }
    }
    if (policy) {
        check_integer("policy.layers", policy->layers, 1, kMaxLayers);
        check_integer("policy.width", policy->width, 1, kMaxDimension);
    }
    check_environment(environment, action_size);
    check_recommended(recommended, horizon);
}

std::int64_t ModelSpec::condition_size() const noexcept {
    const std::int64_t past = std::int64_t{history} - 1;
    return std::int64_t{history} * state_size + past * (std::int64_t{action_size} + 1) + context;
}

int ModelSpec::noisy_size(Stage stage) const noexcept {
    if (stage == Stage::objective) return 0;
    return stage == Stage::proposal ? action_size : state_size;
}

int ModelSpec::clean_size(Stage stage) const noexcept {
    if (stage == Stage::proposal) return 0;
    return stage == Stage::dynamics ? action_size : state_size + action_size;
}

int ModelSpec::output_size(Stage stage) const noexcept {
    return stage == Stage::objective ? kObjectiveOutputs : noisy_size(stage);
}

TensorShapes ModelSpec::tensor_shapes() const {
    TensorShapes shapes;
    const std::pair<const char*, std::int64_t> statistics[] = {
        {"state", state_size}, {"action", action_size}, {"reward", 1}, {"value", 1}};
    for (const auto& [name, size] : statistics) {
        shapes[std::string("normalizer.") + name + ".mean"] = {size};
        shapes[std::string("normalizer.") + name + ".scale"] = {size};
    }
    for (const Stage name : kStages) {
        const TensorShapes network = network_shapes(name);
        for (int member = 0; member < stage(name).members; ++member) {
            const std::string prefix =
                std::string(name_of(name)) + "." + std::to_string(member) + ".";
            for (const auto& [key, shape] : network) shapes[prefix + key] = shape;
        }
    }
    for (const auto& [key, shape] : policy_shapes()) shapes["policy." + key] = shape;
    return shapes;
}

TensorShapes ModelSpec::policy_shapes() const {
    TensorShapes shapes;
    if (!policy) return shapes;
    std::int64_t inputs = condition_size();
    for (int i = 0; i < policy->layers; ++i) {
        const std::string key = "hidden." + std::to_string(i);
        shapes[key + ".weight"] = {policy->width, inputs};
        shapes[key + ".bias"] = {policy->width};
        inputs = policy->width;
    }
    shapes["out.weight"] = {action_size, inputs};
    shapes["out.bias"] = {action_size};
    return shapes;
}

TensorShapes ModelSpec::network_shapes(Stage name) const {
    const StageSpec& sizes = stage(name);
    const std::int64_t width = sizes.width, inner = std::int64_t{sizes.heads} * sizes.head_size;
    const std::int64_t patch = sizes.patch;

    TensorShapes shapes;
    const auto linear = [&](const std::string& key, std::int64_t outputs, std::int64_t inputs) {
        shapes[key + ".weight"] = {outputs, inputs};
        shapes[key + ".bias"] = {outputs};
    };

    linear("token", width, patch * (noisy_size(name) + clean_size(name)));
    shapes["positions"] = {horizon / patch, width};
    if (sizes.history_tokens) shapes["history.weight"] = {width, condition_size()};
    linear("condition.history", width, condition_size());
    if (noisy_size(name) > 0) {
        shapes["condition.angle.weight"] = {width, 2 * kAngleFrequencies};
        shapes["condition.target.weight"] = {width, 2 * kAngleFrequencies};
    }
    linear("condition.out", width, width);
    for (int i = 0; i < sizes.layers; ++i) {
        const std::string block = "blocks." + std::to_string(i) + ".";
        linear(block + "modulation", 6 * width, width);
        linear(block + "qkv", 3 * inner, width);
        linear(block + "projection", width, inner);
        linear(block + "mlp_in", sizes.mlp, width);
        linear(block + "mlp_out", width, sizes.mlp);
    }
    linear("final.modulation", 2 * width, width);
    linear("final.out", patch * output_size(name), width);
    return shapes;
}

}  // namespace dmpc
