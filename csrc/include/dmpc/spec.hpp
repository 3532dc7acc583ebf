// Every size and setting of a model, with the field names and limits of dmpc_fast/spec.py.
//
// Notation: S state size, A action size, F horizon, H history.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace dmpc {

inline constexpr int kFormatVersion = 1;
inline constexpr int kAngleFrequencies = 16;
inline constexpr double kAngleMaxFrequency = 64.0;
inline constexpr double kLayerNormEpsilon = 1e-5;
inline constexpr int kObjectiveOutputs = 3;  // reward, logit of going on, value

inline constexpr int kMaxDimension = 65536;
inline constexpr int kMaxHorizon = 4096;
inline constexpr int kMaxHistory = 1024;
inline constexpr int kMaxCondition = 16 * kMaxDimension;
inline constexpr int kMaxLayers = 128;
inline constexpr int kMaxMembers = 16;
inline constexpr int kMaxSamplerSteps = 255;
inline constexpr int kMaxSamples = 65536;
inline constexpr int kMaxElites = 256;
inline constexpr std::int64_t kMaxParameters = std::int64_t{1} << 31;
inline constexpr std::size_t kMaxSpecBytes = std::size_t{1} << 20;  // of the JSON text
inline constexpr std::size_t kMaxText = 65536;                      // bytes

/// A model's description or file is not what it must be; the message names the key or tensor.
class ModelFileError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

enum class Stage { proposal, dynamics, objective };
inline constexpr std::array kStages{Stage::proposal, Stage::dynamics, Stage::objective};
std::string_view name_of(Stage stage) noexcept;

enum class SamplerRule { ddim, consistency };
std::string_view name_of(SamplerRule rule) noexcept;

/// How a stage is sampled. angles: radians, strictly falling, each in (0, pi/2]; one evaluation
/// each.
struct SamplerSpec {
    SamplerRule rule = SamplerRule::ddim;
    std::vector<double> angles;

    /// Throws ModelFileError unless the angles are legal.
    void validate() const;
    bool operator==(const SamplerSpec&) const = default;
};

enum class Positions { learned, fourier };
std::string_view name_of(Positions positions) noexcept;

/// Dimensions of one stage's trajectory transformer.
struct StageSpec {
    int layers = 0;
    int width = 0;
    int heads = 0;
    int head_size = 0;
    int mlp = 0;
    int patch = 1;  // time steps per token; F is a multiple of it
    Positions positions = Positions::learned;
    bool history_tokens = false;         // whether the condition is also added to every token
    int members = 1;                     // networks in the ensemble
    std::optional<SamplerSpec> sampler;  // none for the objective

    bool operator==(const StageSpec&) const = default;
};

/// Dimensions of the reactive policy: hidden layers of `width`, each followed by GELU (tanh form),
/// from the condition to the next action.
struct PolicySpec {
    int layers = 0;
    int width = 0;

    bool operator==(const PolicySpec&) const = default;
};

/// The robot a model is for.
struct EnvironmentSpec {
    std::optional<std::string> id;
    std::optional<std::vector<std::string>> observation_keys;
    std::vector<std::optional<double>> action_low;   // (A), none where there is no bound
    std::vector<std::optional<double>> action_high;  // (A)
    double control_period_s = 0;

    bool operator==(const EnvironmentSpec&) const = default;
};

/// Planner options that the model was measured with.
struct Recommended {
    std::optional<int> num_samples;
    std::optional<int> action_chunk;
    std::optional<int> num_elites;
    std::optional<std::string> dtype;

    bool operator==(const Recommended&) const = default;
};

using Shape = std::vector<std::int64_t>;
using TensorShapes = std::map<std::string, Shape, std::less<>>;

struct ModelSpec {
    int state_size = 0;
    int action_size = 0;
    int horizon = 0;
    int history = 1;
    int context = 0;
    double discount = 0;
    double termination_penalty = 0;
    std::array<StageSpec, kStages.size()> stages;
    EnvironmentSpec environment;
    Recommended recommended;
    std::string provenance = "{}";  // JSON text of an object
    int format_version = kFormatVersion;
    std::optional<PolicySpec> policy;  // none: the file lacks the key

    const StageSpec& stage(Stage stage) const { return stages[static_cast<std::size_t>(stage)]; }
    StageSpec& stage(Stage stage) { return stages[static_cast<std::size_t>(stage)]; }

    /// Length of the condition: H states, H-1 actions, H-1 mask entries, context.
    std::int64_t condition_size() const noexcept;
    /// Per-step features that are denoised: A, S or none.
    int noisy_size(Stage stage) const noexcept;
    /// Per-step features given as they are: none, A, or S + A (states first).
    int clean_size(Stage stage) const noexcept;
    int output_size(Stage stage) const noexcept;

    /// Name and shape of every tensor in a file of this model.
    TensorShapes tensor_shapes() const;
    /// Of one network; names lack the prefix `<stage>.<member>.`.
    TensorShapes network_shapes(Stage stage) const;
    /// Of the policy, none without one; names lack the prefix `policy.`.
    TensorShapes policy_shapes() const;

    /// Throws ModelFileError unless all sizes and settings are legal together.
    void validate() const;

    /// The JSON text under `dmpc` in a file's metadata. Throws ModelFileError.
    static ModelSpec from_json(std::string_view text);
    std::string to_json() const;

    bool operator==(const ModelSpec&) const = default;
};

/// Field names of each struct above as they stand in the file: "ModelSpec" -> {"action_size", ...}.
std::map<std::string, std::vector<std::string>> spec_fields();

}  // namespace dmpc
