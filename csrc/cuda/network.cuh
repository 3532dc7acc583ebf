// One evaluation of a network by the blocks that share candidates, up to its last layer.
#pragma once

#include "blocks.cuh"

namespace dmpc::cuda {

/// Candidates of one robot that a set of blocks takes through a plan; there may be none.
struct Candidates {
    int robot, group;
    int first, count;  // of the robot's candidates
    int first_of_group;
};

/// Two arrays (N, F, size) of one robot, of which tokens are made: step after step, the first's
/// features before the second's.
struct Features {
    const float *first, *second;
};

/// Modulations of one robot and sampler row.
struct Modulation {
    const float* all;
    int width;

    /// shift, scale, gate of attention (part 0) or MLP (part 1), `width` numbers each.
    DMPC_DEVICE const float* block(int layer, int part) const {
        return all + (6 * layer + 3 * part) * width;
    }
};

DMPC_DEVICE Modulation modulation_of(const Network& n, int robot, int row) {
    const std::int64_t size = modulation_size(n.layers, n.width);
    return {n.modulations + (std::int64_t{robot} * n.rows + row) * size, n.width};
}

/// Owned rows of the stream: token map, positions and what all tokens of the robot share.
template <class Element>
DMPC_DEVICE void embed(const Network& n, int horizon, const Candidates& c, const Features& features,
                       const Stream<Element>& s) {
    const float* offset = n.offset + std::int64_t{c.robot} * n.width;
    const int sizes = n.first_size + n.second_size, total = (s.last - s.first) * n.width;
    for (int i = device::thread(); i < total; i += kThreads) {
        const int row = s.first + i / n.width, w = i % n.width;
        if (row >= s.rows) break;
        const int token = row % n.tokens;
        const std::int64_t step =
            std::int64_t{c.first + row / n.tokens} * horizon + token * n.patch;
        float sum = offset[w] + n.positions[token * n.width + w];
        for (int k = 0; k < n.patch; ++k) {
            const float* weights = n.token + std::int64_t{k} * sizes * n.width + w;
            const float* first = features.first + (step + k) * n.first_size;
            const float* second = features.second + (step + k) * n.second_size;
            for (int f = 0; f < n.first_size; ++f) sum += first[f] * weights[f * n.width];
            weights += n.first_size * n.width;
            for (int f = 0; f < n.second_size; ++f) sum += second[f] * weights[f * n.width];
        }
        s.own[(row - s.first) * s.padded_width + w] = sum;
    }
    device::sync_block();
}

/// The set's stream for a network's tokens of `count` candidates.
template <class P>
DMPC_DEVICE Stream<typename P::Element> make_stream(const Network& n, const SharedLayout& layout,
                                                    std::uint8_t* shared, int count,
                                                    const Room<typename P::Element>& room) {
    const Place& place = room.place;
    const int rows = count * n.tokens;
    const int padded = round_up(rows, kTile), each = ceil_divide(padded, place.splits);
    const int first = place.split * each < padded ? place.split * each : padded;
    const int last = first + each < padded ? first + each : padded;
    return {reinterpret_cast<float*>(shared + layout.stream),
            {reinterpret_cast<typename P::Element*>(shared + layout.operand), layout.operand_stride,
             layout.operand_panel},
            reinterpret_cast<float*>(shared + layout.part),
            layout.part_stride,
            first,
            last,
            rows,
            n.width,
            n.padded_width,
            place,
            {reinterpret_cast<typename P::Element*>(room.meeting.operand), layout.operand_stride,
             layout.operand_panel},
            reinterpret_cast<const float*>(room.meeting.parts),
            room.meeting.part_bytes / 4};
}

/// Where blocks are apart: the set's operands to shared memory.
template <class P>
DMPC_DEVICE void take_operands(const Stream<typename P::Element>& s,
                               const Room<typename P::Element>& room, int tiles) {
    if constexpr (!P::kWarpgroups) {
        if (!room.place.apart) return;
        const int bytes = tiles * kTile * s.operand.stride * element_bytes(P::kProduct);
        copy_fresh(s.operand.data, room.meeting.operand, bytes);
        device::sync_block();
    }
}

/// And this block's part to where the others read it.
template <class P>
DMPC_DEVICE void give_part(const Stream<typename P::Element>& s,
                           const Room<typename P::Element>& room, int tiles) {
    if constexpr (!P::kWarpgroups) {
        if (!room.place.apart) return;
        device::sync_block();
        auto* const to = reinterpret_cast<float*>(
            room.meeting.parts + room.place.split * std::int64_t{room.meeting.part_bytes});
        for (int i = device::thread(); i < tiles * kTile * s.part_stride; i += kThreads) {
            to[i] = s.part[i];
        }
    }
}

template <class P>
DMPC_DEVICE void evaluate_here(const Network& n, int horizon, const Candidates& c,
                               const Features& features, const Modulation& modulation,
                               const Stream<typename P::Element>& s,
                               Room<typename P::Element>& room) {
    const LayerShape shape = layer_shape(n);
    const int own = ceil_divide(s.rows, kTile);
    // Sets that share weights read them as often, however many candidates they have.
    const Tiles tiles{own, s.place.sets > 1 ? ceil_divide(room.candidates * n.tokens, kTile) : own};
    embed(n, horizon, c, features, s);
    Update update{nullptr, nullptr};
    for (int layer = 0; layer < n.layers; ++layer) {
        const std::uint8_t* weights = n.weights + layer * shape.bytes(P::kProduct);
        const float* biases = n.biases + layer * shape.biases();
        const float* added = biases + shape.biases() - 2 * n.width;
        for (int part = 0; part < 2; ++part) {
            const float* changed = modulation.block(layer, part);
            gather_and_hand_out<P>(s, update, changed, changed + n.width);
            // Operands are complete, and all parts have been read.
            publish<P>();
            sync_set<P>(room);
            take_operands<P>(s, room, own);
            if (part == 0) {
                attention<P>(n, weights, biases, s, room, tiles);
            } else {
                mlp<P>(n, weights, biases, s, room, tiles);
            }
            // Parts are complete, and all operands have been read.
            give_part<P>(s, room, own);
            sync_set<P>(room);
            update = {changed + 2 * n.width, added + part * n.width};
        }
    }
    const float* last = modulation.block(n.layers, 0);
    gather_and_keep<P>(s, update, last, last + n.width);
    device::sync_block();
}

template <class P>
DMPC_DEVICE_CALL void evaluate_apart(const Network& n, int horizon, const Candidates& c,
                                     const Features& features, const Modulation& modulation,
                                     const Stream<typename P::Element>& s,
                                     Room<typename P::Element>& room) {
    evaluate_here<P>(n, horizon, c, features, modulation, s, room);
}

/// Everything before the last layer: owned rows are left normalised and modulated for it. A
/// function of its own but where products are by warpgroups, which compilers wait for around every
/// call.
template <class P>
DMPC_DEVICE void evaluate(const Network& n, int horizon, const Candidates& c,
                          const Features& features, const Modulation& modulation,
                          const Stream<typename P::Element>& s, Room<typename P::Element>& room) {
    if constexpr (P::kWarpgroups) {
        evaluate_here<P>(n, horizon, c, features, modulation, s, room);
    } else {
        evaluate_apart<P>(n, horizon, c, features, modulation, s, room);
    }
}

/// The last layer: result(row, output, value) in one lane for every output of owned rows.
template <class Element, class Result>
DMPC_DEVICE void last_layer(const Network& n, const Stream<Element>& s, const Result& result) {
    const int end = s.last < s.rows ? s.last : s.rows;
    const int total = end > s.first ? (end - s.first) * n.outputs : 0;
    for (int task = device::warp(); task < total; task += kWarps) {
        const int row = task / n.outputs, output = task % n.outputs;
        const float* own = s.own + row * s.padded_width;
        const float* weights = n.final_out + std::int64_t{output} * n.width;
        float sum = 0;
        for (int w = device::lane(); w < n.width; w += kLanes) sum += own[w] * weights[w];
        sum = sum_of_warp(sum);
        if (device::lane() == 0) result(s.first + row, output, sum + n.final_bias[output]);
    }
    device::sync_block();
}

}  // namespace dmpc::cuda
