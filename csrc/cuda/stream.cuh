// The residual stream: every block of those that share candidates owns some rows of it, keeps them
// in float32, adds up what all of them have computed for them, and hands the normalised rows to
// all.
#pragma once

#include <cmath>

#include "room.cuh"

namespace dmpc::cuda {

inline constexpr float kNormEpsilon = 1e-5f;

DMPC_DEVICE float sum_of_warp(float value) {
#pragma unroll
    for (int mask = kLanes / 2; mask > 0; mask /= 2) value += device::shuffle_xor(value, mask);
    return value;
}

/// A block's view of the rows of its set.
template <class Element>
struct Stream {
    float* own;             // (owned rows, padded width)
    Rows<Element> operand;  // normalised rows, of the whole set
    float* part;            // (rows, part_stride): what this block adds to the stream
    int part_stride;
    int first, last;  // owned rows, those of padding included
    int rows;         // without padding
    int width, padded_width;
    Place place;
    // Of a set that is no cluster, in global memory: rows for all, and what each block adds.
    Rows<Element> handed;
    const float* parts;
    int part_size;  // elements

    /// What block `split` of the set adds at `index`.
    template <class P>
    DMPC_DEVICE float added(int split, int index) const {
        if constexpr (!P::kWarpgroups) {
            if (place.apart) return device::load_fresh(parts + split * part_size + index);
        }
        return device::peer(part, place.of_split(split))[index];
    }
};

/// An update that has been computed in parts: stream += gate (bias + parts). Null gate: nothing.
struct Update {
    const float *gate, *bias;
};

/// Adds `update` to an owned row and gives its mean and 1 / standard deviation.
template <class P>
DMPC_DEVICE void gather_row(const Stream<typename P::Element>& s, int row, const Update& update,
                            float& mean, float& inverse) {
    float* own = s.own + (row - s.first) * s.padded_width;
    float sum = 0;
    for (int w = device::lane(); w < s.width; w += kLanes) {
        float value = own[w];
        if (update.gate != nullptr) {
            float added = update.bias[w];
            for (int split = 0; split < s.place.splits; ++split) {
                added += s.template added<P>(split, row * s.part_stride + w);
            }
            value += update.gate[w] * added;
            own[w] = value;
        }
        sum += value;
    }
    mean = sum_of_warp(sum) / static_cast<float>(s.width);
    float squares = 0;
    for (int w = device::lane(); w < s.width; w += kLanes) {
        const float apart = own[w] - mean;
        squares += apart * apart;
    }
    inverse = 1.0f / std::sqrt(sum_of_warp(squares) / static_cast<float>(s.width) + kNormEpsilon);
}

/// A pair of a normalised row, to the operands of all blocks of the set.
template <class P>
DMPC_DEVICE void hand_out(const Stream<typename P::Element>& s, int row, int column,
                          const float (&pair)[2]) {
    if constexpr (!P::kWarpgroups) {
        if (s.place.apart) {
            P::store(s.handed.at(row, column), pair[0], pair[1]);
            return;
        }
    }
    for (int split = 0; split < s.place.splits; ++split) {
        P::store(device::peer(s.operand.at(row, column), s.place.of_split(split)), pair[0],
                 pair[1]);
    }
}

/// Gathers owned rows and writes norm(row) (1 + scale) + shift to the operands of all blocks.
template <class P>
DMPC_DEVICE void gather_and_hand_out(const Stream<typename P::Element>& s, const Update& update,
                                     const float* shift, const float* scale) {
    for (int row = s.first + device::warp(); row < s.last; row += kWarps) {
        float mean = 0, inverse = 0;
        if (row < s.rows) gather_row<P>(s, row, update, mean, inverse);
        device::sync_warp();  // lanes read pairs that two lanes have written
        const float* own = s.own + (row - s.first) * s.padded_width;
        for (int w = 2 * device::lane(); w < s.padded_width; w += 2 * kLanes) {
            float pair[2] = {0, 0};
            for (int i = 0; i < 2; ++i) {
                if (row < s.rows && w + i < s.width) {
                    pair[i] = (own[w + i] - mean) * inverse * (1 + scale[w + i]) + shift[w + i];
                }
            }
            hand_out<P>(s, row, w, pair);
        }
    }
}

/// Gathers owned rows and normalises them in place: for the last layer, which their owner computes.
template <class P>
DMPC_DEVICE void gather_and_keep(const Stream<typename P::Element>& s, const Update& update,
                                 const float* shift, const float* scale) {
    for (int row = s.first + device::warp(); row < s.last && row < s.rows; row += kWarps) {
        float mean, inverse;
        gather_row<P>(s, row, update, mean, inverse);
        float* own = s.own + (row - s.first) * s.padded_width;
        for (int w = device::lane(); w < s.width; w += kLanes) {
            own[w] = (own[w] - mean) * inverse * (1 + scale[w]) + shift[w];
        }
    }
}

}  // namespace dmpc::cuda
