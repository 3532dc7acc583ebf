// What depends on robot and sampler row alone, computed once for all candidates: the embedded
// condition, then the modulations of all layers.
#pragma once

#include <cmath>

#include "sizes.hpp"
#include "stream.cuh"

namespace dmpc::cuda {

DMPC_DEVICE float silu(float x) { return x / (1.0f + std::exp(-x)); }

/// weights (size) times vector (size), by a warp.
DMPC_DEVICE float dot_of_warp(const float* weights, const float* vector, int size) {
    float sum = 0;
    for (int i = device::lane(); i < size; i += kLanes) sum += weights[i] * vector[i];
    return sum_of_warp(sum);
}

/// Conditions of one network and robot, all of its rows in turns. hidden: room for (width).
DMPC_DEVICE void embed_condition(const Network& n, int robot, const float* condition,
                                 float* hidden) {
    const float* own = condition + std::int64_t{robot} * n.condition_size;
    for (int row = 0; row < n.rows; ++row) {
        for (int w = device::warp(); w < n.width; w += kWarps) {
            const float sum =
                dot_of_warp(n.history + std::int64_t{w} * n.condition_size, own, n.condition_size);
            if (device::lane() != 0) continue;
            const float angle =
                n.angles == nullptr ? 0.0f : n.angles[std::int64_t{row} * n.width + w];
            hidden[w] = silu(sum + n.history_bias[w] + angle);
        }
        device::sync_block();
        float* out = n.embedded + (std::int64_t{robot} * n.rows + row) * n.width;
        for (int w = device::warp(); w < n.width; w += kWarps) {
            const float sum = dot_of_warp(n.embed + std::int64_t{w} * n.width, hidden, n.width);
            if (device::lane() == 0) out[w] = silu(sum + n.embed_bias[w]);
        }
        device::sync_block();
    }
    for (int w = device::warp(); w < n.width; w += kWarps) {
        float sum = 0;
        if (n.token_history != nullptr) {
            sum = dot_of_warp(n.token_history + std::int64_t{w} * n.condition_size, own,
                              n.condition_size);
        }
        if (device::lane() == 0) {
            n.offset[std::int64_t{robot} * n.width + w] = sum + n.token_bias[w];
        }
    }
}

/// Block (network, robot).
DMPC_DEVICE void condition_block(const PlanParams& p, float* hidden) {
    const int network = device::block() / p.robots, robot = device::block() % p.robots;
    embed_condition(p.networks[network], robot, p.condition, hidden);
}

/// Block (network, slice): modulations `slice * kWarps + warp` and so on, of all robots and rows,
/// so that a weight is read once.
DMPC_DEVICE void modulation_block(const PlanParams& p, int slices) {
    const Network& n = p.networks[device::block() / slices];
    const int size = modulation_size(n.layers, n.width), vectors = p.robots * n.rows;
    const int first = device::block() % slices * kWarps + device::warp();
    for (int i = first; i < size; i += slices * kWarps) {
        const float* weights = n.modulation + std::int64_t{i} * n.width;
        for (int v = 0; v < vectors; ++v) {
            const float sum = dot_of_warp(weights, n.embedded + std::int64_t{v} * n.width, n.width);
            if (device::lane() == 0) {
                n.modulations[std::int64_t{v} * size + i] = sum + n.modulation_bias[i];
            }
        }
    }
}

}  // namespace dmpc::cuda
