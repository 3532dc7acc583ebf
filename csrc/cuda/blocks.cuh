// A transformer layer by a cluster: every block takes some of the heads and some of the hidden
// columns, so that a cluster reads each weight once.
#pragma once

#include "attention.cuh"
#include "product.cuh"
#include "stream.cuh"

namespace dmpc::cuda {

/// What a block works with: its place in the cluster and its shared memory.
template <class Element>
struct Room {
    int rank, cluster;
    Element* work;  // (rows, work_stride): queries, keys and values, or hidden columns
    int work_stride;
    std::uint8_t* scratch;  // of this warp: ring of weights, or weights of attention
};

DMPC_DEVICE LayerShape layer_shape(const Network& n) {
    return {n.width, n.padded_width, n.heads, n.padded_head, n.padded_mlp};
}

/// gelu in its tanh form, written as x sigmoid(2 u).
DMPC_DEVICE float gelu(float x) {
    const float u = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    return x / (1.0f + std::exp(-2.0f * u));
}

/// Where a product's sums go: the first to arrive sets, the others add.
template <class Element>
struct ToPart {
    const Stream<Element>& stream;
    bool first;

    DMPC_DEVICE void operator()(int row, int column, float one, float two) const {
        float* to = stream.part + row * stream.part_stride + column;
        to[0] = first ? one : to[0] + one;
        to[1] = first ? two : to[1] + two;
    }
};

/// A block that has nothing to do still has a part, of zeros.
template <class Element>
DMPC_DEVICE void clear_part(const Stream<Element>& s, int rows) {
    for (int i = device::thread(); i < rows * s.part_stride; i += kThreads) s.part[i] = 0;
}

template <class P>
DMPC_DEVICE void attention(const Network& n, const std::uint8_t* weights, const float* biases,
                           const Stream<typename P::Element>& s,
                           const Room<typename P::Element>& room, int tiles) {
    const LayerShape shape = layer_shape(n);
    const int deep = shape.qkv().units_deep(P::kPrecision);
    const int head_columns = 3 * n.padded_head;
    const int together = (room.work_stride - kRowGap) / head_columns;
    const std::uint8_t* projection = weights + shape.qkv().bytes(P::kPrecision);
    const float scale = 1.0f / std::sqrt(static_cast<float>(n.head_size));
    const Share own = share(n.heads, room.rank, room.cluster);
    if (own.first == own.last) clear_part(s, tiles * kTile);
    for (int head = own.first; head < own.last; head += together) {
        const int count = own.last - head < together ? own.last - head : together;
        const float* bias = biases + head * head_columns;
        product<P>(
            Operand<typename P::Element>{s.operand, s.operand_stride, n.padded_width, 0},
            {weights, deep, 0, deep, head * head_columns / kTile, count * head_columns / kTile},
            tiles, room.scratch, [&](int row, int column, float one, float two) {
                P::store(room.work + row * room.work_stride + column, one + bias[column],
                         two + bias[column + 1]);
            });
        device::sync_block();
        for (int task = device::warp(); task < count * tiles; task += kWarps) {
            attend<P>(room.work + task / tiles * head_columns, n.padded_head, room.work_stride,
                      task % tiles * kTile, s.rows, n.tokens, scale,
                      reinterpret_cast<float*>(room.scratch));
        }
        device::sync_block();
        const int head_units = n.padded_head / P::kDepth;
        product<P>(
            Operand<typename P::Element>{room.work, room.work_stride, n.padded_head, head_columns},
            {projection, shape.projection().units_deep(P::kPrecision), head * head_units,
             count * head_units, 0, n.padded_width / kTile},
            tiles, room.scratch, ToPart<typename P::Element>{s, head == own.first});
        device::sync_block();
    }
}

template <class P>
DMPC_DEVICE void mlp(const Network& n, const std::uint8_t* weights, const float* biases,
                     const Stream<typename P::Element>& s, const Room<typename P::Element>& room,
                     int tiles) {
    const LayerShape shape = layer_shape(n);
    const int deep = shape.mlp_in().units_deep(P::kPrecision);
    const int together = (room.work_stride - kRowGap) / kTile;
    const std::uint8_t* in =
        weights + shape.qkv().bytes(P::kPrecision) + shape.projection().bytes(P::kPrecision);
    const std::uint8_t* out = in + shape.mlp_in().bytes(P::kPrecision);
    const Share own = share(n.padded_mlp / kTile, room.rank, room.cluster);
    if (own.first == own.last) clear_part(s, tiles * kTile);
    for (int unit = own.first; unit < own.last; unit += together) {
        const int count = own.last - unit < together ? own.last - unit : together;
        const float* bias = biases + 3 * n.heads * n.padded_head + unit * kTile;
        product<P>(Operand<typename P::Element>{s.operand, s.operand_stride, n.padded_width, 0},
                   {in, deep, 0, deep, unit, count}, tiles, room.scratch,
                   [&](int row, int column, float one, float two) {
                       P::store(room.work + row * room.work_stride + column,
                                gelu(one + bias[column]), gelu(two + bias[column + 1]));
                   });
        device::sync_block();
        const int ratio = kTile / P::kDepth;
        product<P>(Operand<typename P::Element>{room.work, room.work_stride, n.padded_mlp, 0},
                   {out, shape.mlp_out().units_deep(P::kPrecision), unit * ratio, count * ratio, 0,
                    n.padded_width / kTile},
                   tiles, room.scratch, ToPart<typename P::Element>{s, unit == own.first});
        device::sync_block();
    }
}

}  // namespace dmpc::cuda
