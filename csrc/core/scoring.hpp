// What a trajectory is worth: terms joined into J, violations and tie-breaks, and the ranking.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dmpc/objective.hpp"

namespace dmpc {

/// What candidates are ranked by: smallest violation, then highest score, then highest tie-break.
struct Evaluation {
    float score = 0, violation = 0, tie_break = 0;
};

/// Predictions of one ensemble member for one candidate, environment units.
struct LearnedPrediction {
    const float* reward;  // (F)
    const float* logit;   // (F) of going on
    float value;          // of the last state
};

/// An objective made ready for one plan; keeps its memory from plan to plan.
class Objective {
public:
    /// Room for `members` and `horizon`; throws std::bad_alloc.
    Objective(int state_size, int action_size, int horizon, int members, double discount,
              double penalty);

    /// Scratch of one worker.
    struct Scratch {
        explicit Scratch(const Objective& objective);
        std::vector<double> step;         // (F): the bracket without learned terms
        std::vector<double> log_reached;  // (members, F)
    };

    /// Empty `terms` mean the objective that the model was trained for. The span must outlive the
    /// plan.
    void set_terms(std::span<const Term> terms);

    bool needs_learned() const { return needs_learned_; }

    /// states (F, S), actions (F, A) in environment units; `learned` holds the members'
    /// predictions, or is empty where `needs_learned()` is false.
    Evaluation evaluate(const float* states, const float* actions,
                        std::span<const LearnedPrediction> learned,
                        Scratch& scratch) const noexcept;

    /// Order of ascending keys with everything that is not a number last: -1, 0 or 1.
    static int compare(float a, float b) noexcept;
    /// Index of the best of `count` candidates, the first of exact equals; what is not a number
    /// ranks last.
    static std::int64_t best(const float* scores, const float* violations, const float* tie_breaks,
                             std::int64_t count) noexcept;

private:
    void fixed_terms(const float* states, const float* actions, double* step) const;
    double member_score(const LearnedPrediction& learned, const double* step,
                        double* log_reached) const;
    double violation(const float* states) const;
    double tie_break(const float* states, const double* log_reached, int members) const;

    int state_size_, action_size_, horizon_, members_;
    double penalty_;
    std::vector<double> discounts_;  // gamma^0 .. gamma^F
    std::span<const Term> terms_;
    bool needs_learned_ = true;
    bool has_gaussian_ = false;
    double reward_weight_ = 1, alive_weight_ = 1, value_weight_ = 1;
};

}  // namespace dmpc
