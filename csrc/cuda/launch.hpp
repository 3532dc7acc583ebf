// Launchers: a params struct and a stream, no synchronisation, an error code back. Compiled by nvcc
// (launch.cu) and, for tests, for the host (emulated/launch.cpp).
#pragma once

#include "params.hpp"
#include "sizes.hpp"

namespace dmpc::cuda {

/// A cudaStream_t; ignored by the emulation.
using Stream_t = void*;

/// Blocks that share the modulations of one network.
inline constexpr int kModulationSlices = 32;

/// Conditions and modulations of all robots, networks and sampler rows. `max_width`: of the
/// networks. Returns a cudaError_t, 0 for success.
int launch_condition(const PlanParams& params, int max_width, Stream_t stream) noexcept;

/// The plan, or the stages that `params.stages` names. Returns a cudaError_t, 0 for success.
int launch_plan(const PlanParams& params, Product product, Stream_t stream) noexcept;

/// How many clusters of that many blocks the device runs at once, for blocks of `shared_bytes`; 0
/// where it does not say. Multiprocessors lie in groups that need not be multiples of a cluster.
int clusters_at_once(Product product, int cluster, int shared_bytes) noexcept;

}  // namespace dmpc::cuda
