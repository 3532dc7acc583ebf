// A controller in a page: loads a model, plans at its control rate, reports missed deadlines.
//
//     embed MODEL.safetensors [SECONDS] [THREADS]
//
// The robot here is a stand-in that drifts towards its commands: put sensors and motors in its
// place.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <thread>
#include <vector>

#include "dmpc/planner.hpp"

namespace {

using Clock = std::chrono::steady_clock;

class Robot {
public:
    explicit Robot(const dmpc::ModelSpec& spec) : state_(spec.state_size) {}

    const std::vector<float>& observe() const { return state_; }

    void run(const std::vector<float>& action) {
        for (std::size_t i = 0; i < state_.size(); ++i) {
            state_[i] += 0.05f * (action[i % action.size()] - state_[i]);
        }
    }

private:
    std::vector<float> state_;
};

int control(const char* path, double seconds, int threads) {
    auto planner = dmpc::Planner::load(path, {.num_threads = threads});
    const dmpc::ModelSpec& spec = planner.spec();
    const double period_s = spec.environment.control_period_s;
    const auto period =
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(period_s));
    const int steps = std::max(1, static_cast<int>(seconds / period_s));

    Robot robot(spec);
    std::vector<float> action(spec.action_size);
    const std::vector<float> context(spec.context);
    std::vector<double> latency_ms;
    latency_ms.reserve(steps);
    int missed = 0;
    auto due = Clock::now();
    for (int step = 0; step < steps; ++step) {
        const auto begin = Clock::now();
        const dmpc::Status status = planner.act(robot.observe(), action, {.context = context});
        const std::chrono::duration<double, std::milli> taken = Clock::now() - begin;
        if (status != dmpc::Status::ok) {
            std::fprintf(stderr, "step %d: %s\n", step, dmpc::message(status));
            return 1;
        }
        robot.run(action);
        latency_ms.push_back(taken.count());
        due += period;
        if (Clock::now() > due) {
            ++missed;
            due = Clock::now();  // a late step moves the following ones
        } else {
            std::this_thread::sleep_until(due);
        }
    }

    std::sort(latency_ms.begin(), latency_ms.end());
    const auto percentile = [&](double share) {
        return latency_ms[static_cast<std::size_t>(share * static_cast<double>(steps - 1))];
    };
    std::printf("%d decisions of %d candidates every %.1f ms\n", steps, planner.num_samples(),
                1e3 * period_s);
    std::printf("latency p50 %.3f ms, p99 %.3f ms, max %.3f ms; missed deadlines: %d\n",
                percentile(0.5), percentile(0.99), latency_ms.back(), missed);
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 2) {
        std::fprintf(stderr, "usage: %s MODEL.safetensors [SECONDS] [THREADS]\n", arguments[0]);
        return 2;
    }
    try {
        return control(arguments[1], count > 2 ? std::atof(arguments[2]) : 2.0,
                       count > 3 ? std::atoi(arguments[3]) : 1);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s: %s\n", arguments[1], error.what());
        return 1;
    }
}
