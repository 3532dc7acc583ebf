// How a plan is cut: candidates of a set of blocks, sets of a cluster, and what blocks keep in
// shared memory. Pure functions of sizes; all figures that they rest on are stated here.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
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
    Product product;
};

/// What the device can hold and do, per second. Rates are those of an H200, by data sheets and by
/// measurements of others; they weigh choices against one another and promise nothing.
struct DeviceLimits {
    int processors, shared_bytes, max_cluster;
    // Multiply-adds of a processor: 95 % of what is measured for wgmma, 60 % of that for mma.
    double products_wgmma = 2.9e12, products_bf16 = 1.8e12, products_tf32 = 0.9e12;
    double products_float32 = 0.2e12;
    double l2_bytes = 5.5e12;  // of the chip
    double cluster_sync_s = 1.0e-6, block_sync_s = 0.3e-6;
    double apart_sync_s = 2.0e-6;  // by a counter in L2
    // Clusters of 1, 2, 4 and 8 blocks that run at once; 0 where only their processors are counted.
    std::array<int, 4> clusters{};

    int blocks_at_once(int cluster) const {
        const auto blocks = static_cast<unsigned>(cluster);
        const int known = std::has_single_bit(blocks) && cluster <= kMaxCluster
                              ? clusters[static_cast<std::size_t>(std::countr_zero(blocks))]
                              : 0;
        return (known > 0 ? known : std::max(1, processors / cluster)) * cluster;
    }
};

/// candidates: of a set. sets: of a cluster, which read weights together. splits: blocks of a set,
/// which share its heads and hidden columns.
/// apart: the blocks of a set are no cluster and meet in global memory, which takes that all blocks
/// of a plan run at once.
struct Cut {
    int candidates, sets, splits;
    bool apart = false;
};

/// Tiles of a group, those included that only fill its last cluster.
inline int tiles_of(int count, const Cut& cut) {
    return round_up(ceil_divide(count, cut.candidates), cut.sets);
}

/// How a plan is cut, with the time that the rates predict.
struct PlanChoice {
    Cut cut;
    SharedLayout shared;
    int tiles;  // sets of one robot, of all groups
    int waves;
    double tensor_s, l2_s, sync_s, predicted_s;
    double fill;  // of the chip's processors by the blocks of a plan, over all waves
};

/// Shared memory of a block that takes `candidates` candidates; `work_columns` as chosen.
inline SharedLayout layout_of(const PlanSizes& sizes, int candidates, int splits,
                              int work_columns) {
    const int bytes = element_bytes(sizes.product);
    const bool grouped = sizes.product == Product::wgmma_bf16;
    int own = 0, operand = 0, part = 0, rows = 0, width = 0, scratch = kRingBytes;
    for (const NetworkSizes& n : sizes.networks) {
        const int all = round_up(candidates * n.tokens, kTile);
        rows = std::max(rows, all);
        width = std::max(width, n.layer.padded_width);
        own = std::max(own, ceil_divide(all, splits) * n.layer.padded_width * 4);
        for (int row = 0; row < all; row += kTile) {
            const Span span = key_span(row, candidates * n.tokens, n.tokens);
            scratch = std::max(scratch, kTile * span.count * 4);
        }
    }
    SharedLayout layout{};
    // Panels of 8 columns, row after row, are what descriptors of matrices can name. The gap keeps
    // writes of one row apart.
    const int held = operand_tiles(sizes.product, rows / kTile) * kTile;
    const int panel = grouped ? (held + 1) * kPanel : kPanel;
    layout.operand_stride = grouped ? kPanel : width + kRowGap;
    layout.operand_panel = layout.work_panel = panel;
    layout.part_stride = width + (grouped ? kRowGap / 2 : kRowGap);
    layout.work_stride = grouped ? kPanel : work_columns + kRowGap;
    layout.work_columns = work_columns;
    const auto operand_bytes = [&](int columns) {
        return (grouped ? columns / kPanel * panel : rows * (columns + kRowGap)) * bytes;
    };
    operand = round_up(operand_bytes(width), 128);
    part = round_up(rows * layout.part_stride * 4, 128);
    layout.scratch_bytes = round_up(scratch, 128);
    layout.operand = round_up(own, 128);
    layout.part = layout.operand + operand;
    layout.work = layout.part + part;
    layout.scratch = layout.work + round_up(operand_bytes(work_columns), 128);
    layout.barriers = layout.scratch + kWarps * layout.scratch_bytes;
    layout.zeros = layout.barriers + kBarrierBytes;
    layout.total = layout.zeros + kCoreBytes;
    // Ranking takes shared memory over.
    layout.total = std::max(layout.total, kThreads * 16);
    return layout;
}

/// Columns of the work area: queries, keys and values of one head at the least, and more where
/// there is room, up to what keeps all warps of a block busy.
inline std::optional<SharedLayout> fit_layout(const PlanSizes& sizes, int shared_bytes,
                                              int candidates, int splits) {
    constexpr int kEnough = 512;
    int least = kTile, most = kTile;
    for (const NetworkSizes& n : sizes.networks) {
        const int heads = ceil_divide(n.layer.heads, splits);
        least = std::max(least, 3 * n.layer.padded_head);
        most = std::max({most, 3 * n.layer.padded_head * heads,
                         round_up(ceil_divide(n.layer.padded_mlp, splits), kTile)});
    }
    for (int columns = std::max(least, std::min(most, kEnough)); columns >= least;
         columns -= kTile) {
        const SharedLayout layout = layout_of(sizes, candidates, splits, columns);
        if (layout.total <= shared_bytes) return layout;
    }
    return std::nullopt;
}

inline double rate_of(Product product, const DeviceLimits& device) {
    switch (product) {
        case Product::fma_float32: return device.products_float32;
        case Product::mma_tf32: return device.products_tf32;
        case Product::mma_bf16: return device.products_bf16;
        case Product::wgmma_bf16: return device.products_wgmma;
    }
    return 0;
}

/// How often weights are read from L2 for `tiles` tiles of rows.
inline int passes(Product product, int tiles) {
    if (product != Product::wgmma_bf16) return tiles / 4 + tiles / 2 % 2 + tiles % 2;
    int count = 0;
    for (int left = tiles; left > 0; left -= group_tiles(left)) ++count;
    return count;
}

/// The rows that a product of `rows` rows takes as long as, at full rate. A warpgroup reads 64
/// weights from shared memory for each inner dimension in the time of 32 rows, and then its rows.
inline double rows_of_time(Product product, int rows) {
    if (product != Product::wgmma_bf16) return rows;
    double time = 0;
    for (int left = rows / kTile; left > 0; left -= group_tiles(left)) {
        const double own = group_tiles(left) * kTile;
        time += std::max(own, 32 + own / 2);
    }
    return time;
}

/// How a device multiplies in bf16: by warpgroups on compute capability 9.0 alone, since later ones
/// have dropped the instruction.
constexpr Product bf16_product(int major, int minor) {
    return major == 9 && minor == 0 ? Product::wgmma_bf16 : Product::mma_bf16;
}

/// The time that the rates predict for one way to cut. A multicast is taken to cost L2 what one
/// read does, and its receivers nothing.
inline PlanChoice predict(const PlanSizes& sizes, const DeviceLimits& device, const Cut& cut,
                          const SharedLayout& layout) {
    PlanChoice choice{cut, layout, 0, 0, 0, 0, 0, 0, 0};
    for (const int count : sizes.groups) choice.tiles += tiles_of(count, cut);
    const int cluster = cut.sets * cut.splits;
    const int blocks = sizes.robots * choice.tiles * cut.splits;
    // Blocks that are apart need no place beside one another.
    const int together = cut.apart ? device.processors : device.blocks_at_once(cluster);
    const int waves = ceil_divide(blocks, together);
    choice.waves = waves;
    const double rate = rate_of(sizes.product, device);
    const double sync = cut.apart     ? device.apart_sync_s
                        : cluster > 1 ? device.cluster_sync_s
                                      : device.block_sync_s;
    for (const NetworkSizes& n : sizes.networks) {
        const double times = static_cast<double>(n.evaluations) * n.layers;
        const double bytes = static_cast<double>(n.layer.bytes(sizes.product));
        const int rows = round_up(cut.candidates * n.tokens, kTile);
        const double weights = bytes / element_bytes(sizes.product);
        // The busiest block of a set, since heads may not divide evenly.
        const double busiest =
            static_cast<double>(ceil_divide(n.layer.heads, cut.splits)) / n.layer.heads;
        const int chunks = passes(sizes.product, rows / kTile);
        choice.tensor_s +=
            waves * times * rows_of_time(sizes.product, rows) * weights * busiest / rate;
        choice.l2_s += times * bytes * chunks * blocks / cluster / device.l2_bytes;
        if (cut.apart) {
            // Twice a layer a block reads operands, writes its part and reads its share of all.
            const double moved = double{2} * rows * n.layer.padded_width;
            choice.l2_s +=
                times * blocks * moved * (element_bytes(sizes.product) + 8) / device.l2_bytes;
        }
        const int of_cluster = cut.sets > 1 ? 5 : 4;  // sets meet after attention, too
        choice.sync_s +=
            waves * times * (of_cluster * sync + (10 - of_cluster) * device.block_sync_s);
    }
    choice.predicted_s = std::max(choice.tensor_s, choice.l2_s) + choice.sync_s;
    choice.fill = static_cast<double>(blocks) / (static_cast<double>(waves) * device.processors);
    return choice;
}

/// Of two that are as fast where L2 is the limit, the one that keeps more processors busy.
inline bool sooner(const PlanChoice& a, const PlanChoice& b) {
    return a.predicted_s != b.predicted_s ? a.predicted_s < b.predicted_s : a.tensor_s < b.tensor_s;
}

/// The cut with the least predicted time; nothing where not even one candidate fits. Sets share
/// weights where these come by bulk copies alone; blocks of a set are apart where there are no
/// clusters.
inline std::optional<PlanChoice> choose_plan(const PlanSizes& sizes, const DeviceLimits& device) {
    const int largest = *std::max_element(sizes.groups.begin(), sizes.groups.end());
    const bool apart = device.max_cluster == 1;
    const int most = std::min(apart ? kMaxCluster : device.max_cluster, device.processors);
    const int most_sets = sizes.product == Product::wgmma_bf16 && !apart ? most : 1;
    std::optional<PlanChoice> best;
    for (int splits = 1; splits <= most; splits *= 2) {
        for (int candidates = 1; candidates <= largest; ++candidates) {
            const auto layout = fit_layout(sizes, device.shared_bytes, candidates, splits);
            if (!layout) break;
            for (int sets = 1; sets <= most_sets && sets * splits <= most; sets *= 2) {
                const Cut cut{candidates, sets, splits, apart && splits > 1};
                const PlanChoice choice = predict(sizes, device, cut, *layout);
                if (cut.apart && choice.waves > 1) continue;
                if (!best || sooner(choice, *best)) best = choice;
            }
        }
    }
    return best;
}

}  // namespace dmpc::cuda
