// Sizes that host and device must agree on: padding, packed matrices, modulations.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define DMPC_HOST_DEVICE __host__ __device__
#else
#define DMPC_HOST_DEVICE
#endif

namespace dmpc::cuda {

/// Side of a tile of a product: rows, columns and padded inner dimensions are multiples of it.
inline constexpr int kTile = 16;
/// A unit of a packed matrix: 16 columns times as many inner dimensions as 512 bytes hold.
inline constexpr int kUnitBytes = 512;
/// Units of a warp that are on their way, two columns of units each.
inline constexpr int kRingStages = 4, kUnitsPerStage = 2;
inline constexpr int kRingBytes = kRingStages * kUnitsPerStage * kUnitBytes;
/// Elements that lie together: 16 bytes of bf16.
inline constexpr int kPanel = 8;
/// Elements between rows beyond their number of columns, so that eight rows hit distinct banks.
inline constexpr int kRowGap = 8;

/// Tiles of a product of a warpgroup: 64 columns by two units of inner dimensions a stage.
inline constexpr int kGroupWarps = 4, kGroupColumns = 64;
inline constexpr int kStageUnits = 2, kGroupStages = 4;
/// Bytes of 8 x 8 elements of bf16, as descriptors of matrices count them.
inline constexpr int kCoreBytes = 128;
inline constexpr int kStageBytes = kGroupColumns * kStageUnits * kTile * 2;
/// Two barriers of every stage of every warpgroup, then one at which sets meet.
inline constexpr int kStageBarriers = 16, kBarrierBytes = 144;
static_assert(kGroupStages * kStageBytes <= kGroupWarps * kRingBytes);

/// How matrices are multiplied: the operands' format and the instruction. Sums are float32.
enum class Product : int { fma_float32, mma_tf32, mma_bf16, wgmma_bf16 };

DMPC_HOST_DEVICE constexpr int element_bytes(Product p) {
    return p == Product::mma_bf16 || p == Product::wgmma_bf16 ? 2 : 4;
}

/// Rows, in tiles, that a warpgroup takes through a product at once where `tiles` are left: what is
/// beyond them is multiplied in vain, but weights stream in once.
DMPC_HOST_DEVICE constexpr int group_tiles(int tiles) {
    return tiles >= 7 ? 8 : tiles >= 3 ? 4 : tiles;
}
/// Rows, in tiles, that operands must have room for.
DMPC_HOST_DEVICE constexpr int operand_tiles(Product p, int tiles) {
    if (p != Product::wgmma_bf16) return tiles;
    int held = 0;
    while (held < tiles) held += group_tiles(tiles - held);
    return held;
}

/// Inner dimensions of a unit.
DMPC_HOST_DEVICE constexpr int unit_depth(Product p) {
    return kUnitBytes / (kTile * element_bytes(p));
}

DMPC_HOST_DEVICE constexpr int round_up(int value, int step) {
    return (value + step - 1) / step * step;
}
DMPC_HOST_DEVICE constexpr int ceil_divide(int value, int by) { return (value + by - 1) / by; }

/// A packed matrix of (inner, columns): columns of units one after another.
struct PackedShape {
    int inner, columns;  // multiples of kTile

    DMPC_HOST_DEVICE constexpr int units_deep(Product p) const { return inner / unit_depth(p); }
    DMPC_HOST_DEVICE constexpr std::int64_t bytes(Product p) const {
        return std::int64_t{columns / kTile} * units_deep(p) * kUnitBytes;
    }
};

/// Matrices and biases of one layer, in the order in which they lie.
struct LayerShape {
    int width, padded_width, heads, padded_head, padded_mlp;

    DMPC_HOST_DEVICE constexpr PackedShape qkv() const {
        return {padded_width, 3 * heads * padded_head};
    }
    DMPC_HOST_DEVICE constexpr PackedShape projection() const {
        return {heads * padded_head, padded_width};
    }
    DMPC_HOST_DEVICE constexpr PackedShape mlp_in() const { return {padded_width, padded_mlp}; }
    DMPC_HOST_DEVICE constexpr PackedShape mlp_out() const { return {padded_mlp, padded_width}; }
    DMPC_HOST_DEVICE constexpr std::int64_t bytes(Product p) const {
        return qkv().bytes(p) + projection().bytes(p) + mlp_in().bytes(p) + mlp_out().bytes(p);
    }
    DMPC_HOST_DEVICE constexpr int biases() const {
        return 3 * heads * padded_head + padded_mlp + 2 * width;
    }
};

/// Shift, scale and gate of attention and MLP of every layer, then the last norm's shift and scale.
DMPC_HOST_DEVICE constexpr int modulation_size(int layers, int width) {
    return (6 * layers + 2) * width;
}

/// The part of `count` things that belongs to `rank` of `ranks`: [first, last).
struct Share {
    int first, last;
};
DMPC_HOST_DEVICE constexpr Share share(int count, int rank, int ranks) {
    return {static_cast<int>(std::int64_t{count} * rank / ranks),
            static_cast<int>(std::int64_t{count} * (rank + 1) / ranks)};
}

/// The keys that rows [row, row + 16) may see: from a multiple of 16 on, a multiple of 16 of them.
struct Span {
    int first, count;
};
DMPC_HOST_DEVICE constexpr Span key_span(int row, int rows, int tokens) {
    const int last = row + kTile - 1 < rows ? row + kTile - 1 : rows - 1;
    const int end = (last / tokens + 1) * tokens;
    const int first = row / tokens * tokens / kTile * kTile;
    return {first, round_up(end < rows ? end : rows, kTile) - first};
}

}  // namespace dmpc::cuda
