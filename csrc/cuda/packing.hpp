// Weights in the order in which lanes multiply with them: see precision.cuh for the layout of a
// unit.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "sizes.hpp"

namespace dmpc::cuda {

inline std::uint16_t round_to_bf16(float value) {
    std::uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    // Model files hold finite numbers only; to nearest, ties to even.
    return static_cast<std::uint16_t>((word + 0x7FFF + (word >> 16 & 1)) >> 16);
}

/// 10 bits of mantissa: to nearest, ties away from zero, as cvt.rna does.
inline float round_to_tf32(float value) {
    std::uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    word = (word + 0x1000) & 0xFFFFE000;
    std::memcpy(&value, &word, sizeof word);
    return value;
}

/// Bytes from a packed matrix's start to the element at inner dimension k and column n.
constexpr std::int64_t packed_place(const PackedShape& shape, Product p, int k, int n) {
    const int depth = unit_depth(p), unit_k = k / depth, unit_n = n / kTile;
    const std::int64_t unit = (std::int64_t{unit_n} * shape.units_deep(p) + unit_k) * kUnitBytes;
    const int inner = k % depth, column = n % kTile;
    if (p == Product::fma_float32) return unit + (inner * kTile + column) * 4;
    if (p == Product::mma_tf32) {
        // Lane 4 (column % 8) + inner % 4 holds, for either half of the columns, its inner
        // dimension and the one that is four further.
        return unit + (column % 8 * 4 + inner % 4) * 16 + column / 8 * 8 + inner / 4 * 4;
    }
    if (p == Product::wgmma_bf16) {
        // 8 columns of all inner dimensions, of 8 x 8 elements one after another: a column's eight
        // inner dimensions lie together.
        const std::int64_t group = std::int64_t{n / kPanel} * (shape.inner / kPanel);
        return (group + k / kPanel) * kCoreBytes + n % kPanel * 16 + k % kPanel * 2;
    }
    // Lane 4 (column % 8) + inner % 8 / 2 holds, for either half of the columns, the pair of lower
    // inner dimensions and the pair of those that are eight further.
    const int lane = column % 8 * 4 + inner % 8 / 2;
    return unit + lane * 16 + column / 8 * 8 + inner / 8 * 4 + inner % 2 * 2;
}

/// Where packed inner dimension k (or column n) comes from in a matrix that has gaps after each
/// piece: `piece` of every `padded` ones exist. -1 for a gap.
constexpr int source_of(int packed, int piece, int padded, int total) {
    const int inside = packed % padded, source = packed / padded * piece + inside;
    return inside < piece && source < total ? source : -1;
}

/// A linear map's weights (outputs, inputs) as a packed matrix (inner = inputs, columns = outputs).
struct MatrixSource {
    std::span<const float> values;
    int inputs, outputs;
    int input_piece, input_padded;    // gaps among the inputs
    int output_piece, output_padded;  // and among the outputs

    /// Of attention's joint map, whose outputs are q, k, v, each head after head, and whose packed
    /// columns are heads, each with its q, k, v. 0 elsewhere.
    int heads = 0;

    constexpr int output_of(int column) const {
        if (heads == 0) return source_of(column, output_piece, output_padded, outputs);
        const int head = column / (3 * output_padded), which = column / output_padded % 3;
        const int inside = column % output_padded;
        return inside < output_piece ? (which * heads + head) * output_piece + inside : -1;
    }
};

inline void pack_matrix(const MatrixSource& source, const PackedShape& shape, Product p,
                        std::uint8_t* to) {
    std::memset(to, 0, static_cast<std::size_t>(shape.bytes(p)));
    for (int n = 0; n < shape.columns; ++n) {
        const int output = source.output_of(n);
        if (output < 0) continue;
        for (int k = 0; k < shape.inner; ++k) {
            const int input = source_of(k, source.input_piece, source.input_padded, source.inputs);
            if (input < 0) continue;
            float value =
                source
                    .values[static_cast<std::size_t>(std::int64_t{output} * source.inputs + input)];
            std::uint8_t* place = to + packed_place(shape, p, k, n);
            if (element_bytes(p) == 4) {
                if (p == Product::mma_tf32) value = round_to_tf32(value);
                std::memcpy(place, &value, sizeof value);
            } else {
                const std::uint16_t half = round_to_bf16(value);
                std::memcpy(place, &half, sizeof half);
            }
        }
    }
}

}  // namespace dmpc::cuda
