// Attention among the tokens of each candidate, of heads whose queries, keys and values lie in
// shared memory. Rows of candidates follow one another without gaps: a tile of 16 rows may hold
// several candidates or a part of one, and sees the keys of all of them with the others masked.
#pragma once

#include <cmath>

#include "precision.cuh"

namespace dmpc::cuda {

/// One tile of queries of one head, by a warp. The result replaces the queries.
/// head: queries, with keys and values `size` columns further each. buffer: 16 rows of
/// the span's length, of this warp.
template <class P>
DMPC_DEVICE void attend(const Rows<typename P::Element>& head, int size, int row, int rows,
                        int tokens, float scale, float* buffer) {
    const int g = device::lane() / 4, t = device::lane() % 4;
    const Span span = key_span(row, rows, tokens);
    const Rows<typename P::Element> keys = head.from(size), values = head.from(2 * size);
    int low[2], high[2];
    float top[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    for (int half = 0; half < 2; ++half) {
        // Rows of padding see what the last row sees, so that they stay numbers.
        const int own = row + g + 8 * half < rows ? row + g + 8 * half : rows - 1;
        low[half] = own / tokens * tokens - span.first;
        high[half] = low[half] + tokens;
    }
    for (int key = 0; key < span.count; key += kTile) {
        float sums[2][4] = {};
        for (int d = 0; d < size; d += kTile) {
            P::multiply_rows(sums, head, row, keys, span.first + key, d);
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int half = i / 2 % 2, column = key + i / 4 * 8 + 2 * t + i % 2;
            const bool seen = column >= low[half] && column < high[half];
            const float logit = seen ? sums[i / 4][i % 4] * scale : -INFINITY;
            top[half] = fmaxf(top[half], logit);
            buffer[(g + 8 * half) * span.count + column] = logit;
        }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        top[half] = fmaxf(top[half], device::shuffle_xor(top[half], 1));
        top[half] = fmaxf(top[half], device::shuffle_xor(top[half], 2));
        float* own = buffer + (g + 8 * half) * span.count;
        for (int column = 2 * t; column < span.count; column += 8) {
            for (int i = 0; i < 2; ++i) {
                const float weight = std::exp(own[column + i] - top[half]);
                own[column + i] = weight;
                total[half] += weight;
            }
        }
        total[half] += device::shuffle_xor(total[half], 1);
        total[half] += device::shuffle_xor(total[half], 2);
    }
    device::sync_warp();  // weights are written, and all queries are read
    for (int d = 0; d < size; d += kTile) {
        float sums[2][4] = {};
        for (int key = 0; key < span.count; key += kTile) {
            P::multiply_weights(sums, buffer + key, span.count, values, span.first + key, d);
        }
        for (int part = 0; part < 2; ++part) {
            const int column = d + part * 8 + 2 * t;
            P::store(head.at(row + g, column), sums[part][0] / total[0], sums[part][1] / total[0]);
            P::store(head.at(row + g + 8, column), sums[part][2] / total[1],
                     sums[part][3] / total[1]);
        }
    }
    device::sync_warp();  // the buffer is free again
}

}  // namespace dmpc::cuda
