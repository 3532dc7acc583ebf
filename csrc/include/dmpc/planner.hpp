// The planner of one robot: what an embedder includes.
//
//     auto planner = dmpc::Planner::load("hopper.safetensors", {.num_samples = 64});
//     const dmpc::Status status = planner.act(observation, action);
//
// Loading may allocate and throw. `act` and `plan` do neither, take no lock, and answer with a
// Status. Every array is float32 in environment units. S state size, A action size, F horizon,
// N candidates of all rounds. A planner is used by one thread at a time; several planners may live
// side by side.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dmpc/iterated_search.hpp"
#include "dmpc/level.hpp"
#include "dmpc/model_file.hpp"
#include "dmpc/objective.hpp"
#include "dmpc/spec.hpp"
#include "dmpc/status.hpp"

namespace dmpc {

/// What decides on actions: a plan, or the model's policy (a few microseconds, no search).
enum class Mode { plan, policy };

/// What produced an action: a plan made for it, an earlier plan, or the policy.
enum class Source { planned, carried, policy };

struct PlannerOptions {
    std::optional<int> num_samples{};   // N; default the file's recommendation or 64
    std::optional<int> action_chunk{};  // actions run per plan; default the file's or 1
    /// Run the mean of so many best candidates; default the file's or 1, the best alone.
    std::optional<int> num_elites{};
    int num_threads = 1;            // counting the caller; 0 for one per processor, up to 16
    std::uint64_t seed = 0;         // key of the random stream: same seed, same plans
    std::uint16_t stream_id = 0;    // this robot's number in the random stream
    std::string dtype = "float32";  // or "bf16", "int8"
    bool spin = false;              // idle threads spin instead of sleeping
    bool pin = false;               // tie each thread but the caller to a processor
    /// Seconds between the caller's actions; one other than the model's is refused.
    std::optional<double> control_period_s{};
    /// Seconds from a call within which its plan should be ready. What there is no time for is left
    /// out, rounds of a search first, then steps, then candidates; `Planner::level` says how far it
    /// got. Plans differ from run to run where that happens.
    double deadline_s = std::numeric_limits<double>::infinity();
    Mode mode = Mode::plan;
    /// Whether the policy, where the model has one, answers when even the least plan should take
    /// longer than the deadline.
    /// Not while `set_objective` has set terms, which the policy does not know.
    bool fallback = true;
    /// Rounds of candidates near the best ones after the first N; none without. What a deadline has
    /// no time for is left out from the last round on.
    std::optional<IteratedSearch> search{};
};

/// All N candidates of one plan, those of further rounds last, copied out. Made by
/// `Planner::make_plan`, which gives it room.
struct Plan {
    std::int64_t best = 0;
    std::vector<float> actions;     // (N, F, A)
    std::vector<float> states;      // (N, F, S)
    std::vector<float> scores;      // (N)
    std::vector<float> violations;  // (N), 0 where every constraint holds
    std::vector<float>
        chosen_actions;  // (F, A): what is run, the best's or the mean of the elites'
    Level level{};       // of candidates left out: NaN, score -infinity
};

/// What an action may need besides the observation.
struct Situation {
    std::span<const float> context{};          // of models that take one
    std::span<const float> previous_action{};  // (A), what really ran; empty: what `act` returned
    std::optional<double> deadline_s{};        // of this call; default the planner's own
};

class Planner {
public:
    /// Throws ModelFileError for a file that is not a valid model, std::invalid_argument for an
    /// option out of range, std::system_error, std::bad_alloc.
    static Planner load(const std::filesystem::path& path, const PlannerOptions& options = {});
    explicit Planner(const Model& model, const PlannerOptions& options = {});
    ~Planner();
    Planner(Planner&&) noexcept;
    Planner& operator=(Planner&&) noexcept;

    /// The action (A) to run now in `observation` (S), within the action bounds. Plans when the
    /// previous plan has run its `action_chunk` actions. Unless the answer is Status::ok, nothing
    /// has changed, `action` included.
    Status act(std::span<const float> observation, std::span<float> action,
               const Situation& situation = {}) noexcept;

    /// Plans from here without going on: same state, same plan.
    Status plan(std::span<const float> observation, Plan& plan,
                std::span<const float> context = {}) const noexcept;
    Plan make_plan() const;

    /// Begins a new episode: clears history and plan, restarts the plan index.
    void reset() noexcept;
    void reset(std::uint64_t seed) noexcept;

    /// Ranks by these terms from the next plan on; none means the learned objective. Throws
    /// std::invalid_argument for an index outside the state.
    void set_objective(std::span<const Term> terms);

    /// How far the plan behind the latest action got; all zero before the first one.
    const Level& level() const noexcept;
    /// What produced the latest action.
    Source source() const noexcept;

    const ModelSpec& spec() const noexcept;
    int num_samples() const noexcept;     // of the first round
    int num_candidates() const noexcept;  // of all rounds
    int action_chunk() const noexcept;
    int num_elites() const noexcept;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace dmpc
