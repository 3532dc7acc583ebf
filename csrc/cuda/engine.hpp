// The host's half: a model on the device, and plans of any shape on it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "params.hpp"
#include "plan_choice.hpp"
#include "program.hpp"
#include "runtime.hpp"

namespace dmpc::cuda {

/// One network as its model file has it. Tensors by their names within the network.
struct NetworkModel {
    int layers, width, heads, head_size, mlp, patch, first_size, second_size, output_size;
    std::map<std::string, std::vector<float>> tensors;
};

/// networks: proposal, dynamics, then the members of the objective.
struct EngineModel {
    int horizon, state_size, action_size, condition_size;
    std::vector<NetworkModel> networks;
    std::vector<float> action_mean, action_scale, action_low, action_high;
    std::vector<float> state_mean, state_scale;
    float reward_mean, reward_scale, value_mean, value_scale;
    std::vector<float> discounts;  // gamma^0 .. gamma^F
};

/// A sampler: a row's update and what its angles add to the condition's hidden layer.
struct SamplerModel {
    std::vector<SamplerRow> rows;
    std::vector<float> angles;  // (rows, width of the network)
    double first_angle = 0;     // of the first row
};

struct GroupModel {
    int count;
    SamplerModel proposal, dynamics;
    std::vector<float> start;  // (B, count, F, A), or empty
};

/// Arrays as in dmpc_fast.backends.base.PlanRequest; given trajectories where a stage is left out.
struct EngineRequest {
    unsigned stages;
    int robots;
    std::vector<float> condition;  // (B, condition)
    std::uint64_t seed;
    std::vector<std::uint32_t> plan_index, robot;
    std::vector<GroupModel> groups;
    std::vector<float> terms;  // (count, kTermColumns)
    bool learned;
    std::vector<float> actions, states;
};

struct EngineResult {
    std::vector<float> actions, states, scores, violations, tie_breaks, action;
    std::vector<std::int64_t> best;
};

/// Plans of that many shapes are kept ready, those used last.
inline constexpr std::size_t kMaxPrograms = 8;

/// Forces the cut of a plan, for tests and measurements; 0 leaves it to the choice.
struct ForcedChoice {
    int candidates = 0;  // of a set
    int cluster = 0;     // blocks
    int sets = 1;        // a divisor of `cluster`
    bool apart = false;  // the blocks of a set meet in global memory; then sets is 1
};

/// Not thread-safe: one call at a time.
class Engine {
public:
    /// Packs the model and copies it to the device. Throws std::runtime_error where the device
    /// refuses, std::invalid_argument for a tensor that is missing or of another size.
    /// stream: where plans run, a cudaStream_t of that device; null for one of the engine's own.
    Engine(EngineModel model, Product product, int device, ForcedChoice forced, void* stream);
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    /// Runs the stages that are asked for, as one graph on the stream, and waits for their results.
    /// Throws std::runtime_error where the device fails or one candidate does not fit a block.
    EngineResult run(const EngineRequest& request);

    /// How a plan for this request is cut; kept, since the search takes longer than a small plan.
    PlanChoice choose(const EngineRequest& request);

private:
    /// Offsets of one network's numbers in the model's memory.
    struct Places {
        std::map<std::string, std::size_t> tensors;
        std::size_t weights, biases, modulation, modulation_bias, token, angles;
    };

    PlanChoice choose_anew(const EngineRequest& request) const;
    Program& program_of(const EngineRequest& request);
    PlanParams params_of(const EngineRequest& request, const PlanChoice& choice,
                         const std::uint8_t* weights) const;
    void load();
    Places load_network(const NetworkModel& network, std::vector<std::uint8_t>& bytes) const;
    Network network_of(std::size_t index, const std::uint8_t* base) const;

    EngineModel model_;
    Product product_;
    int device_;
    ForcedChoice forced_;
    DeviceProperties properties_;
    void *own_stream_ = nullptr, *stream_ = nullptr;
    std::vector<Places> places_;
    std::map<std::vector<int>, PlanChoice> choices_;  // by the sizes of a request
    std::size_t units_ = 0, discounts_ = 0;
    DeviceMemory weights_;
    std::map<std::vector<int>, Program> programs_;  // by all that a graph is made of
    std::uint64_t runs_ = 0;
};

}  // namespace dmpc::cuda
