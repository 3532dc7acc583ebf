#include <cuda_runtime_api.h>

#include "condition.cuh"
#include "launch.hpp"
#include "plan.cuh"

namespace dmpc::cuda {
namespace {

extern __shared__ __align__(128) std::uint8_t shared_memory[];

__global__ void __launch_bounds__(kThreads) condition_kernel(const PlanParams params) {
    condition_block(params, reinterpret_cast<float*>(shared_memory));
}

__global__ void __launch_bounds__(kThreads) modulation_kernel(const PlanParams params) {
    modulation_block(params, kModulationSlices);
}

template <class P>
__global__ void __launch_bounds__(kThreads, 1) plan_kernel(const PlanParams params) {
#if !defined(__CUDA_ARCH_FEAT_SM90_ALL)
    if constexpr (P::kWarpgroups) {
        __trap();  // never launched: see bf16_product
    } else
#endif
    {
        plan_block<P>(params, shared_memory);
    }
}

template <class P>
cudaError_t allow_shared(int bytes) {
    return cudaFuncSetAttribute(plan_kernel<P>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

cudaLaunchAttribute as_cluster(int blocks) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = static_cast<unsigned>(blocks);
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    return attribute;
}

cudaLaunchConfig_t config_of(int blocks, int shared_bytes, cudaStream_t stream) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(kThreads);
    config.dynamicSmemBytes = static_cast<std::size_t>(shared_bytes);
    config.stream = stream;
    return config;
}

template <class P>
cudaError_t launch_plan_of(const PlanParams& params, cudaStream_t stream) {
    const cudaError_t error = allow_shared<P>(params.shared.total);
    if (error != cudaSuccess) return error;
    const int cluster = params.sets * params.splits;
    cudaLaunchAttribute attribute = as_cluster(cluster);
    if (params.apart) {
        // Blocks wait for one another: all of them run at once, or none.
        attribute = {};
        attribute.id = cudaLaunchAttributeCooperative;
        attribute.val.cooperative = 1;
    }
    cudaLaunchConfig_t config =
        config_of(params.robots * params.tiles * params.splits, params.shared.total, stream);
    config.attrs = &attribute;
    // Devices without clusters refuse the attribute itself.
    config.numAttrs = cluster > 1 ? 1 : 0;
    return cudaLaunchKernelEx(&config, plan_kernel<P>, params);
}

template <class P>
int clusters_of(int cluster, int shared_bytes) {
    if (allow_shared<P>(shared_bytes) != cudaSuccess) return 0;
    cudaLaunchAttribute attribute = as_cluster(cluster);
    cudaLaunchConfig_t config = config_of(cluster, shared_bytes, nullptr);
    config.attrs = &attribute;
    config.numAttrs = 1;
    int count = 0;
    return cudaOccupancyMaxActiveClusters(&count, plan_kernel<P>, &config) == cudaSuccess ? count
                                                                                          : 0;
}

}  // namespace

int launch_condition(const PlanParams& params, int max_width, Stream_t stream) noexcept {
    const auto on = static_cast<cudaStream_t>(stream);
    const int networks = 2 + params.members;
    condition_kernel<<<static_cast<unsigned>(networks * params.robots), kThreads,
                       static_cast<std::size_t>(max_width) * sizeof(float), on>>>(params);
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return error;
    modulation_kernel<<<static_cast<unsigned>(networks * kModulationSlices), kThreads, 0, on>>>(
        params);
    return cudaGetLastError();
}

int launch_plan(const PlanParams& params, Product product, Stream_t stream) noexcept {
    const auto on = static_cast<cudaStream_t>(stream);
    switch (product) {
        case Product::fma_float32: return launch_plan_of<Float32>(params, on);
        case Product::mma_tf32: return launch_plan_of<Tf32>(params, on);
        case Product::mma_bf16: return launch_plan_of<Bf16>(params, on);
        case Product::wgmma_bf16: return launch_plan_of<Bf16Warpgroup>(params, on);
    }
    return cudaErrorInvalidValue;
}

int clusters_at_once(Product product, int cluster, int shared_bytes) noexcept {
    int count = 0;
    switch (product) {
        case Product::fma_float32: count = clusters_of<Float32>(cluster, shared_bytes); break;
        case Product::mma_tf32: count = clusters_of<Tf32>(cluster, shared_bytes); break;
        case Product::mma_bf16: count = clusters_of<Bf16>(cluster, shared_bytes); break;
        case Product::wgmma_bf16: count = clusters_of<Bf16Warpgroup>(cluster, shared_bytes); break;
    }
    (void)cudaGetLastError();  // what was refused is no failure of a later launch
    return count;
}

}  // namespace dmpc::cuda
