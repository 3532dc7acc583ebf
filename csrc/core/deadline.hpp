// What a deadline is kept with: a clock, samplers with fewer steps, and the measured pace.
//
// A level halves the steps of a sampler that often, down to one. Level 0 is the sampler itself.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>

#include "dmpc/spec.hpp"

namespace dmpc {

inline constexpr int kNotPlanned = -1;  // in place of a level

/// Steps at `level` of a sampler that has `steps`.
constexpr int steps_at(int steps, int level) { return std::max(1, steps >> level); }

/// Levels of a sampler of so many steps: the last one has one step.
constexpr int level_count(int steps) { return std::bit_width(static_cast<unsigned>(steps)); }

inline constexpr int kMaxLevels = level_count(kMaxSamplerSteps);

/// Nanoseconds that never go back; tests bring their own.
struct Clock {
    static std::int64_t steady(void*) noexcept {
        const auto now = std::chrono::steady_clock::now().time_since_epoch();
        return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
    }

    std::int64_t (*read)(void* context) noexcept = &steady;
    void* context = nullptr;

    std::int64_t now() const noexcept { return read(context); }
    double since(std::int64_t then) const noexcept {
        return 1e-9 * static_cast<double>(now() - then);
    }
};

/// Seconds per multiplication, learned from what is done; shared by threads without a lock.
class Pace {
public:
    /// Seconds that so much work should take, with a margin; a pessimist's before any observation.
    double estimate(double work) const noexcept;
    void observe(double work, double seconds) noexcept;
    /// Whether there was any observation.
    bool seen() const noexcept { return seconds_per_unit_.load(std::memory_order_relaxed) > 0; }
    /// Nothing was done because it would have taken too long: believes that a little less, since
    /// what is never tried is never observed again.
    void doubt() noexcept;

private:
    std::atomic<double> seconds_per_unit_{0.0};
};

}  // namespace dmpc
