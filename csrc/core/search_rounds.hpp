// A plan in rounds, run by an engine: memory and order of what IteratedSearch asks for.
#pragma once

#include <cstdint>
#include <vector>

#include "dmpc/iterated_search.hpp"
#include "engine.hpp"

namespace dmpc {

/// Rounds of one robot's plans. dmpc_fast/planning/iterated_search.py plans alike.
class SearchRounds {
public:
    /// Throws std::invalid_argument where `search` is out of range for `samples` first candidates,
    /// or the model's proposal cannot denoise what was re-noised.
    SearchRounds(const ModelSpec& spec, const IteratedSearch& search, int samples,
                 const Clock& clock = {});

    /// Candidates of all rounds.
    int candidates() const { return samples_ + search_.rounds * children_; }
    /// Makes room in `engine`, so that `run` allocates nothing; throws std::bad_alloc.
    void prepare(Engine& engine) const;

    /// All candidates of all rounds, those of `first`, a request for one robot, first. Under its
    /// deadline a further round begins where the one before left nothing out and it should be ready
    /// in time; it is made as a whole or not at all. Arrays of `output` have room for all rounds;
    /// of those that are not made, for that or because no parent has finite actions, trajectories
    /// are NaN and scores -infinity. `levels` and `tie_breaks` are not given.
    Status run(Engine& engine, const PlanRequest& first, const PlanOutput& output) noexcept;

private:
    bool choose_parents(const float* actions, const float* scores, const float* violations,
                        int count) noexcept;

    IteratedSearch search_;
    Clock clock_;
    int samples_, children_, states_of_plan_, actions_of_plan_;
    SamplerSpec sampler_;                     // of further rounds
    std::vector<float> start_;                // (children, F, A)
    std::vector<float> actions_;              // (N, F, A) where the caller wants none
    std::vector<float> scores_, violations_;  // (N) likewise
    std::vector<std::int64_t> order_;         // (N)
};

}  // namespace dmpc
