#include "scoring.hpp"

#include <algorithm>
#include <cmath>

namespace dmpc {
namespace {

bool is_learned(TermKind kind) {
    return kind == TermKind::learned_reward || kind == TermKind::learned_value ||
           kind == TermKind::alive;
}

double gaussian_exponent(const Term& term, double state) {
    const double distance = state - term.target;
    return -(distance * distance) / (2.0 * term.variance);
}

}  // namespace

Objective::Objective(int state_size, int action_size, int horizon, int members, double discount,
                     double penalty)
    : state_size_(state_size),
      action_size_(action_size),
      horizon_(horizon),
      members_(members),
      penalty_(penalty),
      discounts_(horizon + 1) {
    for (int k = 0; k <= horizon; ++k) discounts_[k] = std::pow(discount, k);
}

Objective::Scratch::Scratch(const Objective& objective)
    : step(objective.horizon_), log_reached(objective.horizon_ * objective.members_) {}

void Objective::set_terms(std::span<const Term> terms) {
    terms_ = terms;
    needs_learned_ = terms.empty();
    has_gaussian_ = false;
    reward_weight_ = alive_weight_ = value_weight_ = terms.empty() ? 1.0 : 0.0;
    for (const Term& term : terms) {
        if (is_learned(term.kind)) needs_learned_ = true;
        switch (term.kind) {
            case TermKind::learned_reward: reward_weight_ += term.weight; break;
            case TermKind::learned_value: value_weight_ += term.weight; break;
            case TermKind::alive: alive_weight_ += term.weight; break;
            case TermKind::gaussian_target: has_gaussian_ = true; break;
            default: break;
        }
    }
}

Evaluation Objective::evaluate(const float* states, const float* actions,
                               std::span<const LearnedPrediction> learned,
                               Scratch& scratch) const noexcept {
    double* step = scratch.step.data();
    fixed_terms(states, actions, step);
    double score = 0;
    int members = 1;
    if (needs_learned_) {
        members = static_cast<int>(learned.size());
        for (int m = 0; m < members; ++m) {
            score += member_score(learned[m], step, scratch.log_reached.data() + m * horizon_);
        }
        score /= members;
    } else {
        for (int k = 0; k < horizon_; ++k) score += discounts_[k] * step[k];
        if (has_gaussian_) std::fill_n(scratch.log_reached.begin(), horizon_, 0.0);
    }
    const double ties = has_gaussian_ ? tie_break(states, scratch.log_reached.data(), members) : 0;
    return {static_cast<float>(score), static_cast<float>(violation(states)),
            static_cast<float>(ties)};
}

void Objective::fixed_terms(const float* states, const float* actions, double* step) const {
    std::fill_n(step, horizon_, 0.0);
    for (const Term& term : terms_) {
        for (int k = 0; k < horizon_; ++k) {
            const double state = states[k * state_size_ + term.index];
            const double distance = state - term.target;
            switch (term.kind) {
                case TermKind::gaussian_target:
                    step[k] += term.weight * std::exp(gaussian_exponent(term, state));
                    break;
                case TermKind::quadratic_target:
                    step[k] -= term.weight * distance * distance;
                    break;
                case TermKind::speed: step[k] -= term.weight * std::abs(distance); break;
                case TermKind::action_cost: {
                    double squares = 0;
                    for (int i = 0; i < action_size_; ++i) {
                        const double action = actions[k * action_size_ + i];
                        squares += action * action;
                    }
                    step[k] -= term.weight * squares;
                    break;
                }
                default: break;
            }
        }
    }
}

double Objective::member_score(const LearnedPrediction& learned, const double* step,
                               double* log_reached) const {
    double score = 0, reached = 1, log_sum = 0;
    for (int k = 0; k < horizon_; ++k) {
        // With e = exp(-|logit|): c and 1 - c are 1 / (1 + e) and e / (1 + e), either way round.
        const double logit = learned.logit[k];
        const double e = std::exp(-std::abs(logit));
        const double large = 1.0 / (1.0 + e), small = e * large;
        const double stop = logit >= 0 ? small : large;
        const double bracket =
            step[k] + reward_weight_ * learned.reward[k] - alive_weight_ * penalty_ * stop;
        score += discounts_[k] * reached * bracket;
        if (has_gaussian_) {
            log_reached[k] = log_sum;
            log_sum += (logit >= 0 ? 0.0 : logit) - std::log1p(e);
        }
        reached *= logit >= 0 ? large : small;
    }
    if (value_weight_ != 0) {
        score += value_weight_ * discounts_[horizon_] * reached * learned.value;
    }
    return score;
}

double Objective::violation(const float* states) const {
    double total = 0;
    for (const Term& term : terms_) {
        if (term.kind != TermKind::state_bound) continue;
        for (int k = 0; k < horizon_; ++k) {
            const double state = states[k * state_size_ + term.index];
            total += std::max(term.low - state, 0.0) + std::max(state - term.high, 0.0);
        }
    }
    return total;
}

double Objective::tie_break(const float* states, const double* log_reached, int members) const {
    // log of the positive terms' part of J minus log of the negative ones', each a log-sum-exp.
    double total = 0;
    for (const double sign : {1.0, -1.0}) {
        double highest = -std::numeric_limits<double>::infinity(), sum = 0;
        bool any = false;
        for (const Term& term : terms_) {
            if (term.kind != TermKind::gaussian_target || !(sign * term.weight > 0)) continue;
            any = true;
            const double log_weight = std::log(sign * term.weight);
            for (int i = 0; i < members * horizon_; ++i) {
                const int k = i % horizon_;
                const double part = log_reached[i] + std::log(discounts_[k]) + log_weight +
                                    gaussian_exponent(term, states[k * state_size_ + term.index]);
                if (part > highest) {
                    sum = sum * std::exp(highest - part) + 1.0;
                    highest = part;
                } else {
                    sum += std::exp(part - highest);
                }
            }
        }
        if (any) total += sign * (std::log(sum) + highest - std::log(members));
    }
    return total;
}

int Objective::compare(float a, float b) noexcept {
    if (std::isnan(a) || std::isnan(b)) return int{std::isnan(a)} - int{std::isnan(b)};
    return a < b ? -1 : int{a > b};
}

std::int64_t Objective::best(const float* scores, const float* violations, const float* tie_breaks,
                             std::int64_t count) noexcept {
    std::int64_t best = 0;
    for (std::int64_t i = 1; i < count; ++i) {
        int order = compare(violations[i], violations[best]);
        if (order == 0) order = compare(-scores[i], -scores[best]);
        if (order == 0) order = compare(-tie_breaks[i], -tie_breaks[best]);
        if (order < 0) best = i;
    }
    return best;
}

}  // namespace dmpc
