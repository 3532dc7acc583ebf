// How a plan is cut: candidates of a cluster, blocks of a cluster and what they keep in shared
// memory. Pure functions of sizes; all figures that they rest on are stated here.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "params.hpp"
#include "sizes.hpp"

namespace dmpc::cuda {

/// One network as far as the choice is concerned. evaluations: in a plan.
struct NetworkSizes {
    LayerShape layer;
    int layers, tokens, evaluations;
};

/// What a choice is made for. groups: candidates of each group.
struct PlanSizes {
    std::vector<NetworkSizes> networks;
    std::vector<int> groups;
    int robots;
    Precision precision;
};

/// What the device can hold and do, per second. Rates are those of an H200, by data sheets and by
/// measurements of others; they weigh choices against one another and promise nothing.
struct DeviceLimits {
    int processors, shared_bytes, max_cluster;
    double products_bf16 = 2.4e12, products_float32 = 0.2e12;  // multiply-adds of a processor
    double l2_bytes = 5.5e12;                                  // of the chip
    double cluster_sync_s = 1.0e-6, block_sync_s = 0.3e-6;
};

/// How a plan is cut, with the time that the rates predict.
struct PlanChoice {
    int candidates, cluster;
    SharedLayout shared;
    int tiles;  // clusters of one robot
    double tensor_s, l2_s, sync_s, predicted_s;
    double fill;  // of the chip's processors by the blocks of a plan, over all waves
};

/// Shared memory of a block that takes `candidates` candidates; `work_columns` as chosen.
inline SharedLayout layout_of(const PlanSizes& sizes, int candidates, int cluster,
                              int work_columns) {
    const int bytes = element_bytes(sizes.precision);
    int own = 0, operand = 0, part = 0, rows = 0, width = 0, scratch = kRingBytes;
    for (const NetworkSizes& n : sizes.networks) {
        const int all = round_up(candidates * n.tokens, kTile);
        rows = std::max(rows, all);
        width = std::max(width, n.layer.padded_width);
        own = std::max(own, ceil_divide(all, cluster) * n.layer.padded_width * 4);
        for (int row = 0; row < all; row += kTile) {
            const Span span = key_span(row, candidates * n.tokens, n.tokens);
            scratch = std::max(scratch, kTile * span.count * 4);
        }
    }
    SharedLayout layout{};
    layout.operand_stride = width + kRowGap;
    layout.part_stride = width + kRowGap;
    layout.work_stride = work_columns + kRowGap;
    operand = round_up(rows * layout.operand_stride * bytes, 128);
    part = round_up(rows * layout.part_stride * 4, 128);
    layout.scratch_bytes = round_up(scratch, 128);
    layout.operand = round_up(own, 128);
    layout.part = layout.operand + operand;
    layout.work = layout.part + part;
    layout.scratch = layout.work + round_up(rows * layout.work_stride * bytes, 128);
    layout.total = layout.scratch + kWarps * layout.scratch_bytes;
    // Ranking takes shared memory over.
    layout.total = std::max(layout.total, kThreads * 16);
    return layout;
}

/// Columns of the work area: queries, keys and values of one head at the least, and more where
/// there is room, up to what keeps all warps of a block busy.
inline std::optional<SharedLayout> fit_layout(const PlanSizes& sizes, int shared_bytes,
                                              int candidates, int cluster) {
    constexpr int kEnough = 512;
    int least = kTile, most = kTile;
    for (const NetworkSizes& n : sizes.networks) {
        const int heads = ceil_divide(n.layer.heads, cluster);
        least = std::max(least, 3 * n.layer.padded_head);
        most = std::max({most, 3 * n.layer.padded_head * heads,
                         round_up(ceil_divide(n.layer.padded_mlp, cluster), kTile)});
    }
    for (int columns = std::max(least, std::min(most, kEnough)); columns >= least;
         columns -= kTile) {
        const SharedLayout layout = layout_of(sizes, candidates, cluster, columns);
        if (layout.total <= shared_bytes) return layout;
    }
    return std::nullopt;
}

/// The time that the rates predict for one way to cut.
inline PlanChoice predict(const PlanSizes& sizes, const DeviceLimits& device, int candidates,
                          int cluster, const SharedLayout& layout) {
    PlanChoice choice{candidates, cluster, layout, 0, 0, 0, 0, 0, 0};
    for (const int count : sizes.groups) choice.tiles += ceil_divide(count, candidates);
    const int blocks = sizes.robots * choice.tiles * cluster;
    const int together = std::max(1, device.processors / cluster) * cluster;
    const int waves = ceil_divide(blocks, together);
    const double rate =
        sizes.precision == Precision::bf16 ? device.products_bf16 : device.products_float32;
    const double sync = cluster > 1 ? device.cluster_sync_s : device.block_sync_s;
    for (const NetworkSizes& n : sizes.networks) {
        const double times = static_cast<double>(n.evaluations) * n.layers;
        const double bytes = static_cast<double>(n.layer.bytes(sizes.precision));
        const int rows = round_up(candidates * n.tokens, kTile);
        const double weights = bytes / element_bytes(sizes.precision);
        // The busiest block of a cluster, since heads may not divide evenly.
        const double busiest =
            static_cast<double>(ceil_divide(n.layer.heads, cluster)) / n.layer.heads;
        const int chunks = rows / 64 + rows / 32 % 2 + rows / 16 % 2;
        choice.tensor_s += waves * times * rows * weights * busiest / rate;
        choice.l2_s += times * bytes * chunks * blocks / cluster / device.l2_bytes;
        choice.sync_s += waves * times * (4 * sync + 6 * device.block_sync_s);
    }
    choice.predicted_s = std::max(choice.tensor_s, choice.l2_s) + choice.sync_s;
    choice.fill = static_cast<double>(blocks) / (static_cast<double>(waves) * device.processors);
    return choice;
}

/// The cut with the least predicted time; nothing where not even one candidate fits.
inline std::optional<PlanChoice> choose_plan(const PlanSizes& sizes, const DeviceLimits& device) {
    const int largest = *std::max_element(sizes.groups.begin(), sizes.groups.end());
    std::optional<PlanChoice> best;
    for (int cluster = 1; cluster <= std::min(device.max_cluster, device.processors);
         cluster *= 2) {
        for (int candidates = 1; candidates <= largest; ++candidates) {
            const auto layout = fit_layout(sizes, device.shared_bytes, candidates, cluster);
            if (!layout) break;
            const PlanChoice choice = predict(sizes, device, candidates, cluster, *layout);
            if (!best || choice.predicted_s < best->predicted_s) best = choice;
        }
    }
    return best;
}

}  // namespace dmpc::cuda
