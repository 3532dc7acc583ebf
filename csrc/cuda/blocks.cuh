// A transformer layer by the blocks that share candidates: each takes some of the heads and some of
// the hidden columns, so that together they read each weight once.
#pragma once

#include "attention.cuh"
#include "product.cuh"
#include "stream.cuh"

namespace dmpc::cuda {

DMPC_DEVICE LayerShape layer_shape(const Network& n) {
    return {n.width, n.padded_width, n.heads, n.padded_head, n.padded_mlp};
}

struct Linear {
    DMPC_DEVICE float operator()(float x) const { return x; }
};
/// gelu in its tanh form, written as x sigmoid(2 u).
struct Gelu {
    DMPC_DEVICE float operator()(float x) const {
        const float u = 0.7978845608028654f * (x + 0.044715f * x * x * x);
        return x / (1.0f + std::exp(-2.0f * u));
    }
};

/// A product's sums go to the work area, with their bias.
template <class P, class Activation>
struct ToWork {
    Rows<typename P::Element> work;
    const float* bias;
    Activation activation{};

    DMPC_DEVICE void pair(int row, int column, float one, float two) const {
        P::store(work.at(row, column), activation(one + bias[column]),
                 activation(two + bias[column + 1]));
    }
    /// 16 columns of 16 rows by a warp, whose lane has of columns g and g + 8 in turns pairs of
    /// rows 2 t and 2 t + 1, then of those eight further.
    DMPC_DEVICE void tile(int row, int column, const float* sums) const {
        const int lane = device::lane();
        const float low = bias[column + lane / 4], high = bias[column + lane / 4 + 8];
        std::uint32_t tiles[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float added = i % 2 == 0 ? low : high;
            tiles[i] = device::pack_bf16(activation(sums[2 * i] + added),
                                         activation(sums[2 * i + 1] + added));
        }
        device::store_tiles_transposed(
            work.at(row + lane / 16 * 8 + lane % 8, column + lane / 8 % 2 * 8), tiles);
    }
};

/// A product's sums go to the part: the first to arrive sets, the others add.
template <class Element>
struct ToPart {
    const Stream<Element>& stream;
    bool first;

    DMPC_DEVICE void add(int row, int column, float value) const {
        float* to = stream.part + row * stream.part_stride + column;
        *to = first ? value : *to + value;
    }
    DMPC_DEVICE void pair(int row, int column, float one, float two) const {
        add(row, column, one);
        add(row, column + 1, two);
    }
    /// As of `ToWork`.
    DMPC_DEVICE void tile(int row, int column, const float* sums) const {
        const int g = device::lane() / 4, t = device::lane() % 4;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            add(row + 2 * t + i % 2 + i / 4 * 8, column + g + i / 2 % 2 * 8, sums[i]);
        }
    }
};

/// A block that has nothing to do still has a part, of zeros.
template <class Element>
DMPC_DEVICE void clear_part(const Stream<Element>& s, int rows) {
    for (int i = device::thread(); i < rows * s.part_stride; i += kThreads) s.part[i] = 0;
}

template <class P>
DMPC_DEVICE void attention(const Network& n, const std::uint8_t* weights, const float* biases,
                           const Stream<typename P::Element>& s, Room<typename P::Element>& room,
                           const Tiles& tiles) {
    const LayerShape shape = layer_shape(n);
    const int deep = shape.qkv().units_deep(P::kProduct);
    const int head_columns = 3 * n.padded_head;
    const int together = room.work_columns / head_columns;
    const std::uint8_t* projection = weights + shape.qkv().bytes(P::kProduct);
    const float scale = 1.0f / std::sqrt(static_cast<float>(n.head_size));
    const Share own = share(n.heads, room.place.split, room.place.splits);
    if (own.first == own.last) clear_part(s, tiles.own * kTile);
    for (int head = own.first; head < own.last; head += together) {
        const int count = own.last - head < together ? own.last - head : together;
        const float* bias = biases + head * head_columns;
        product<P>(
            Operand<typename P::Element>{s.operand, n.padded_width, 0},
            {weights, deep, 0, deep, head * head_columns / kTile, count * head_columns / kTile},
            tiles, room, ToWork<P, Linear>{room.work, bias});
        device::sync_block();
        for (int task = device::warp(); task < count * tiles.own; task += kWarps) {
            attend<P>(room.work.from(task / tiles.own * head_columns), n.padded_head,
                      task % tiles.own * kTile, s.rows, n.tokens, scale,
                      reinterpret_cast<float*>(room.scratch));
        }
        publish<P>();
        device::sync_block();
        // Other sets send weights to where this block's attention keeps its own.
        if (room.place.sets > 1) meet_sets(room.pipe);
        const int head_units = n.padded_head / P::kDepth;
        product<P>(Operand<typename P::Element>{room.work, n.padded_head, head_columns},
                   {projection, shape.projection().units_deep(P::kProduct), head * head_units,
                    count * head_units, 0, n.padded_width / kTile},
                   tiles, room, ToPart<typename P::Element>{s, head == own.first});
        device::sync_block();
    }
}

template <class P>
DMPC_DEVICE void mlp(const Network& n, const std::uint8_t* weights, const float* biases,
                     const Stream<typename P::Element>& s, Room<typename P::Element>& room,
                     const Tiles& tiles) {
    const LayerShape shape = layer_shape(n);
    const int deep = shape.mlp_in().units_deep(P::kProduct);
    const int together = room.work_columns / kTile;
    const std::uint8_t* in =
        weights + shape.qkv().bytes(P::kProduct) + shape.projection().bytes(P::kProduct);
    const std::uint8_t* out = in + shape.mlp_in().bytes(P::kProduct);
    const Share own = share(n.padded_mlp / kTile, room.place.split, room.place.splits);
    if (own.first == own.last) clear_part(s, tiles.own * kTile);
    for (int unit = own.first; unit < own.last; unit += together) {
        const int count = own.last - unit < together ? own.last - unit : together;
        const float* bias = biases + 3 * n.heads * n.padded_head + unit * kTile;
        product<P>(Operand<typename P::Element>{s.operand, n.padded_width, 0},
                   {in, deep, 0, deep, unit, count}, tiles, room, ToWork<P, Gelu>{room.work, bias});
        publish<P>();
        device::sync_block();
        const int ratio = kTile / P::kDepth;
        product<P>(Operand<typename P::Element>{room.work, n.padded_mlp, 0},
                   {out, shape.mlp_out().units_deep(P::kProduct), unit * ratio, count * ratio, 0,
                    n.padded_width / kTile},
                   tiles, room, ToPart<typename P::Element>{s, unit == own.first});
        device::sync_block();
    }
}

}  // namespace dmpc::cuda
