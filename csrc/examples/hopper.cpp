// Drives Hopper through MuJoCo's C API at its control rate, and reports what came late.
//
//     hopper hopper.safetensors hopper.xml [STEPS] [THREADS] [fast]
//
// hopper.xml is Gymnasium's (gymnasium/envs/mujoco/assets); observation, reward and the end of an
// episode are those of its Hopper-v5. `fast` does not wait for the clock between steps.
#include <mujoco/mujoco.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "dmpc/planner.hpp"

namespace {

using Clock = std::chrono::steady_clock;

class Hopper {
public:
    explicit Hopper(const char* path) {
        char error[500] = "";
        model_.reset(mj_loadXML(path, nullptr, error, sizeof error));
        if (!model_) throw std::runtime_error(error);
        data_.reset(mj_makeData(model_.get()));
        mj_forward(model_.get(), data_.get());
    }

    int state_size() const { return static_cast<int>(model_->nq + model_->nv) - 1; }
    int action_size() const { return static_cast<int>(model_->nu); }
    double period_s() const { return frame_skip * model_->opt.timestep; }

    void observe(std::vector<float>& observation) const {
        auto out = observation.begin();
        for (int i = 1; i < model_->nq; ++i) *out++ = static_cast<float>(data_->qpos[i]);
        for (int i = 0; i < model_->nv; ++i) {
            *out++ = static_cast<float>(std::clamp(data_->qvel[i], -10.0, 10.0));
        }
    }

    /// Runs an action for one control period; gives its reward.
    double run(const std::vector<float>& action) {
        const double before = data_->qpos[0];
        double effort = 0;
        for (int i = 0; i < model_->nu; ++i) {
            data_->ctrl[i] = action[i];
            effort += data_->ctrl[i] * data_->ctrl[i];
        }
        for (int i = 0; i < frame_skip; ++i) mj_step(model_.get(), data_.get());
        return (data_->qpos[0] - before) / period_s() + (healthy() ? 1.0 : 0.0) - 1e-3 * effort;
    }

    bool healthy() const { return data_->qpos[1] > 0.7 && std::abs(data_->qpos[2]) < 0.2; }

private:
    static constexpr int frame_skip = 4;
    std::unique_ptr<mjModel, decltype(&mj_deleteModel)> model_{nullptr, mj_deleteModel};
    std::unique_ptr<mjData, decltype(&mj_deleteData)> data_{nullptr, mj_deleteData};
};

int drive(const char* weights, const char* xml, int steps, int threads, bool fast) {
    auto planner = dmpc::Planner::load(weights, {.num_threads = threads, .dtype = "bf16"});
    Hopper robot(xml);
    if (planner.spec().state_size != robot.state_size() ||
        planner.spec().action_size != robot.action_size()) {
        throw std::runtime_error("the model is of another robot");
    }
    std::vector<float> observation(robot.state_size()), action(robot.action_size());
    std::vector<double> latency_ms;  // of the actions that needed a plan
    latency_ms.reserve(steps);
    const std::chrono::duration<double> period(robot.period_s());
    double total = 0;
    int missed = 0, step = 0;
    for (auto begin = Clock::now(); step < steps;) {
        robot.observe(observation);
        const dmpc::Status status = planner.act(observation, action);
        if (status != dmpc::Status::ok) throw std::runtime_error(dmpc::message(status));
        const std::chrono::duration<double> taken = Clock::now() - begin;
        if (step % planner.action_chunk() == 0) latency_ms.push_back(1e3 * taken.count());
        missed += taken > period;
        total += robot.run(action);
        ++step;
        if (!robot.healthy()) break;
        if (!fast) std::this_thread::sleep_until(begin + period);
        begin = Clock::now();
    }
    std::sort(latency_ms.begin(), latency_ms.end());
    const std::size_t count = latency_ms.size();
    std::printf("%d steps of %.1f ms, return %.1f\n", step, 1e3 * period.count(), total);
    std::printf("%zu plans: p50 %.3f ms, p99 %.3f ms, max %.3f ms; missed deadlines: %d\n", count,
                latency_ms[count / 2], latency_ms[count * 99 / 100], latency_ms.back(), missed);
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 3) {
        std::fprintf(stderr,
                     "usage: hopper MODEL.safetensors hopper.xml [STEPS] [THREADS] [fast]\n");
        return 2;
    }
    try {
        return drive(arguments[1], arguments[2], count > 3 ? std::atoi(arguments[3]) : 1000,
                     count > 4 ? std::atoi(arguments[4]) : 1,
                     count > 5 && std::strcmp(arguments[5], "fast") == 0);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "hopper: %s\n", error.what());
        return 1;
    }
}
