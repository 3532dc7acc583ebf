#include "deadline.hpp"

namespace dmpc {
namespace {

constexpr double kMargin = 1.1;
// Before anything was seen: slower than any machine worth planning on, so that a tight deadline is
// kept and a generous one is not wasted.
constexpr double kUnseen = 1e-9;
// A slow chunk is believed sooner than a fast one, for a missed deadline costs more than an idle
// core; yet one interruption must not govern the plans that follow.
constexpr double kSlower = 0.5;
constexpr double kFaster = 0.125;
constexpr double kDoubt = 0.95;  // twice too slow is forgotten in 14 calls

}  // namespace

static_assert(std::atomic<double>::is_always_lock_free);

double Pace::estimate(double work) const noexcept {
    const double pace = seconds_per_unit_.load(std::memory_order_relaxed);
    return kMargin * (pace > 0 ? pace : kUnseen) * work;
}

void Pace::observe(double work, double seconds) noexcept {
    const double pace = seconds_per_unit_.load(std::memory_order_relaxed);
    const double seen = seconds / work;
    // Two threads that observe at once may lose one observation, never mix two.
    const double next = pace > 0 ? pace + (seen > pace ? kSlower : kFaster) * (seen - pace) : seen;
    seconds_per_unit_.store(next, std::memory_order_relaxed);
}

void Pace::doubt() noexcept {
    const double pace = seconds_per_unit_.load(std::memory_order_relaxed);
    seconds_per_unit_.store(kDoubt * pace, std::memory_order_relaxed);
}

}  // namespace dmpc
