#include "../launch.hpp"

#include "../condition.cuh"
#include "../plan.cuh"
#include "runtime.hpp"

namespace dmpc::cuda {
namespace {

template <class Kernel>
int run(int blocks, int cluster, bool apart, int shared_bytes, const Kernel& kernel) {
    try {
        emulated::launch(blocks, cluster, apart, shared_bytes, kernel);
    } catch (const std::exception& error) {
        emulated::note_failure(error.what());
        return emulated::kFailed;
    }
    return 0;
}

int run_condition(const PlanParams& params, int max_width) {
    const int networks = 2 + params.members;
    const int error = run(
        networks * params.robots, 1, false, max_width * 4,
        [&](std::uint8_t* shared) { condition_block(params, reinterpret_cast<float*>(shared)); });
    if (error != 0) return error;
    return run(networks * kModulationSlices, 1, false, 0,
               [&](std::uint8_t*) { modulation_block(params, kModulationSlices); });
}

int run_plan(const PlanParams& params, Product product) {
    return run(params.robots * params.tiles * params.splits, params.sets * params.splits,
               params.apart, params.shared.total, [&](std::uint8_t* shared) {
                   switch (product) {
                       case Product::fma_float32: return plan_block<Float32>(params, shared);
                       case Product::mma_tf32: return plan_block<Tf32>(params, shared);
                       case Product::mma_bf16: return plan_block<Bf16>(params, shared);
                       case Product::wgmma_bf16: return plan_block<Bf16Warpgroup>(params, shared);
                   }
               });
}

}  // namespace

int launch_condition(const PlanParams& params, int max_width, Stream_t stream) noexcept {
    return emulated::enqueue(stream, [=] { return run_condition(params, max_width); });
}

int launch_plan(const PlanParams& params, Product product, Stream_t stream) noexcept {
    return emulated::enqueue(stream, [=] { return run_plan(params, product); });
}

int clusters_at_once(Product, int, int) noexcept { return 0; }

}  // namespace dmpc::cuda
