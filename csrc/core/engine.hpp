// A whole plan as one program: proposals, what they lead to, what that is worth, and the best of
// them.
//
// After construction, a call allocates nothing if its request is no larger than one that `prepare`
// or an earlier call has seen (robots, sampler rows, groups); nothing depends on the number of
// candidates. One call at a time: a second one from another thread gets Status::busy.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "conditioning.hpp"
#include "deadline.hpp"
#include "dmpc/level.hpp"
#include "dmpc/objective.hpp"
#include "dmpc/spec.hpp"
#include "dmpc/status.hpp"
#include "forward.hpp"
#include "packed_network.hpp"
#include "policy.hpp"
#include "sampler.hpp"
#include "scoring.hpp"
#include "thread_pool.hpp"

namespace dmpc {

struct EngineOptions {
    cpu::Precision precision = cpu::Precision::float32;
    cpu::InstructionSet instruction_set = cpu::InstructionSet::automatic;
    int threads = 1;  // counting the caller; 0 for one per processor, up to 16
    Idle idle = Idle::sleep;
    bool pin = false;
    Clock clock{};
};

/// Candidates that share how they are sampled; see `CandidateGroup` in dmpc_fast/backends/base.py.
struct CandidateGroup {
    int count = 0;
    const SamplerSpec* proposal = nullptr;  // null: the model's own
    const SamplerSpec* dynamics = nullptr;
    const float* start = nullptr;  // (B, count, F, A), or null for pure noise
};

/// Everything that determines a plan. Environment units, C-contiguous.
struct PlanRequest {
    int robots = 1;                  // B
    const float* states = nullptr;   // (B, H, S), oldest first
    const float* actions = nullptr;  // (B, H-1, A)
    const float* mask = nullptr;     // (B, H-1)
    const float* context = nullptr;  // (B, context)
    std::uint64_t seed = 0;
    const std::int64_t* robot_ids = nullptr;   // (B)
    const std::int64_t* plan_index = nullptr;  // (B)
    std::span<const CandidateGroup> groups{};
    std::span<const Term> terms{};  // empty: the learned objective
    int num_elites = 1;             // candidates whose mean is run; see elites.hpp
    /// Of `plan`: seconds from the call by which it should be done. Candidates are planned in
    /// chunks, each at the first level (deadline.hpp) that should be ready in time, or not at all;
    /// the first chunk of each robot always, at the lowest level at least.
    double deadline_s = std::numeric_limits<double>::infinity();
    /// Of `plan`: (B, N), level of each candidate or kNotPlanned, as a former plan gave them; null:
    /// the deadline decides.
    const std::int8_t* levels = nullptr;

    int candidates() const;
};

/// Where results go. For `plan`, every pointer may be null: not wanted.
struct PlanOutput {
    std::int64_t* best = nullptr;   // (B)
    float* actions = nullptr;       // (B, N, F, A)
    float* states = nullptr;        // (B, N, F, S)
    float* scores = nullptr;        // (B, N)
    float* violations = nullptr;    // (B, N)
    float* tie_breaks = nullptr;    // (B, N)
    float* run_actions = nullptr;   // (B, F, A): the mean of the elites'
    std::int8_t* levels = nullptr;  // (B, N); kNotPlanned: NaN trajectories, score -infinity
    Level* level = nullptr;         // what all of it amounts to
};

class Engine {
public:
    /// Packs the weights and starts the threads. `tensor` finds a tensor by its name in the file;
    /// the model must be valid. Throws std::invalid_argument for an instruction set that this
    /// machine lacks, std::bad_alloc, std::system_error.
    Engine(const ModelSpec& spec, const TensorLookup& tensor, const EngineOptions& options);
    ~Engine();

    /// Makes room for requests of up to this size, with a deadline or without; throws
    /// std::bad_alloc.
    void prepare(int robots, int candidates, int groups, int proposal_rows, int dynamics_rows,
                 bool deadlines = false);

    /// Proposals (B, N, F, A), clipped to the action bounds.
    Status sample(const PlanRequest& request, float* actions) noexcept;
    /// States (B, N, F, S) that follow `actions` (B, N, F, A).
    Status predict(const PlanRequest& request, const float* actions, float* states) noexcept;
    /// Scores, violations and tie-breaks, each (B, N), of given trajectories.
    Status score(const PlanRequest& request, const float* states, const float* actions,
                 const PlanOutput& output) noexcept;
    /// All three and the ranking.
    Status plan(const PlanRequest& request, const PlanOutput& output) noexcept;

    /// The policy's actions (B, A), clipped to the action bounds, for the states and history of
    /// `request`, of which nothing else is read; it may be called during a plan of another thread
    /// no more than `plan` may. Status::no_policy where the model has none.
    Status react(const PlanRequest& request, float* actions) noexcept;

    /// Seconds that the least of a plan for so many robots should take, which no deadline can cut:
    /// one step of every network for the first chunk of each. 0 before the first plan.
    double least_seconds(int robots, int candidates) const noexcept;
    /// A plan was not asked for because of `least_seconds`.
    void skip() noexcept { pace_.doubt(); }

    const ModelSpec& spec() const { return spec_; }
    const cpu::Kernels& kernels() const { return *kernels_; }
    int threads() const { return pool_.threads(); }

private:
    struct Network;
    struct Worker;
    struct Call;
    struct Chunk;
    /// Statistics of one kind of vector, repeated over the horizon so that loops over whole
    /// trajectories have no remainder.
    struct Affine {
        std::vector<float> mean, scale, inverse;
    };

    Status run(Call& call) noexcept;
    Status check(const Call& call) const noexcept;
    bool finite(const PlanRequest& request) const noexcept;
    void condition(const PlanRequest& request) noexcept;
    bool plan_ahead(Call& call) noexcept;
    void embed(const Call& call) noexcept;
    void work(Call& call, int worker) noexcept;
    void advance(Call& call, Chunk chunk, Worker& worker) noexcept;
    void advance_as_given(Call& call, const Chunk& chunk, Worker& worker) noexcept;
    void advance_fully(Call& call, const Chunk& chunk, Worker& worker) noexcept;
    int affordable_level(const Call& call, const Chunk& chunk, double now) const noexcept;
    double work_of(const Call& call, const Chunk& chunk, int level) const noexcept;
    void mark(Call& call, const Chunk& chunk) noexcept;
    Level reached(const Call& call) const noexcept;
    Chunk chunk_of(const Call& call, int index) const noexcept;
    void propose(const Call& call, const Chunk& chunk, Worker& worker) const noexcept;
    void follow(const Call& call, const Chunk& chunk, Worker& worker) const noexcept;
    void evaluate(const Call& call, const Chunk& chunk, Worker& worker) const noexcept;
    void denoise(const Call& call, const Chunk& chunk, Worker& worker, Stage stage) const noexcept;
    void predict_learned(const Chunk& chunk, Worker& worker) const noexcept;
    void gather(const Network& network, int count, Worker& worker) const noexcept;

    ModelSpec spec_;
    const cpu::Kernels* kernels_;
    std::vector<std::unique_ptr<Network>> networks_;  // proposal, dynamics, objective members
    std::unique_ptr<Policy> policy_;                  // null: the model has none
    Affine state_, action_, reward_, value_;
    std::vector<float> low_, high_;  // action bounds, repeated over the horizon
    Objective objective_;
    Clock clock_;
    Pace pace_, opening_;  // of chunks; of what precedes them, per robot
    ThreadPool pool_;
    std::vector<std::unique_ptr<Worker>> workers_;
    int chunk_capacity_;  // candidates for which the workers have room
    Schedule schedules_[2];
    AlignedBuffer<float> conditions_;                  // (B, condition padded)
    AlignedBuffer<float> plans_;                       // (B, N, F, A) where the caller wants none
    AlignedBuffer<float> scores_, violations_, ties_;  // (B, N) likewise
    AlignedBuffer<std::int8_t> levels_;                // (B, N) likewise
    std::atomic_flag busy_;
};

}  // namespace dmpc
