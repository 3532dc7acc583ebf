// Attention of each candidate over its own tokens, a tile of rows at a time: logits, softmax and
// the weighted sum of values never leave L1.
namespace dmpc::cpu::DMPC_TARGET {

/// Transposed keys (head_size, tokens padded), then the weights of a tile of rows and their sums.
inline std::size_t attention_scratch(int tokens, int head_size) {
    const auto padded = static_cast<std::size_t>(round_up(tokens, kLanes));
    const auto size = static_cast<std::size_t>(head_size);
    return size * padded + kRowTile * padded + kRowTile * size;
}

inline void transpose_keys(const float* keys, std::ptrdiff_t stride, int tokens, int head_size,
                           float* out) {
    const int padded = round_up(tokens, kLanes);
    for (int d = 0; d < head_size; ++d) {
        for (int t = 0; t < tokens; ++t) out[d * padded + t] = keys[t * stride + d];
        for (int t = tokens; t < padded; ++t) out[d * padded + t] = 0.0f;
    }
}

/// Turns a row of logits into unnormalised weights, 0 past `tokens`; returns 1 / their sum.
inline float softmax_row(float* row, int tokens) {
    const int end = round_up(tokens, kLanes);
    const int last = tokens - (end - kLanes);
    const F32 lowest = splat(-3.0e38f);
    F32 top = keep_first(load(row + end - kLanes), last, lowest);
    for (int i = 0; i < end - kLanes; i += kLanes) top = max(top, load(row + i));
    const F32 peak = splat(largest(top));
    F32 total{};
    for (int i = 0; i < end - kLanes; i += kLanes) {
        const F32 weight = exponential(load(row + i) - peak);
        store(row + i, weight);
        total += weight;
    }
    const F32 weight = keep_first(exponential(load(row + end - kLanes) - peak), last, F32{});
    store(row + end - kLanes, weight);
    return 1.0f / sum(total + weight);
}

/// (rows, columns) = a (rows, depth) b (depth, columns), all float32 and row-major.
inline void small_product(int rows, const float* a, std::ptrdiff_t a_stride, int depth,
                          const float* b, std::ptrdiff_t b_stride, int columns, float* out,
                          std::ptrdiff_t out_stride) {
    for (int column = 0; column < columns; column += kTileColumns) {
        const int vectors = minimum(kTileVectors, (columns - column) / kLanes);
        kTiles<Float32>.table[rows][vectors](a, a_stride, b + column, b_stride, depth, out + column,
                                             out_stride);
    }
}

template <class Operand>
void attention(const Attention& t) {
    const int padded = round_up(t.tokens, kLanes);
    float* keys = t.scratch;
    float* weights = keys + static_cast<std::ptrdiff_t>(t.head_size) * padded;
    float* sums = weights + kRowTile * padded;
    for (int candidate = 0; candidate < t.candidates; ++candidate) {
        const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(candidate) * t.tokens;
        for (int head = 0; head < t.heads; ++head) {
            const float* q = t.qkv + first * t.qkv_stride + head * 3 * t.head_size;
            const float* v = q + 2 * t.head_size;
            auto* out = static_cast<typename Operand::Element*>(t.out) + first * t.out_stride +
                        head * t.head_size;
            transpose_keys(q + t.head_size, t.qkv_stride, t.tokens, t.head_size, keys);
            for_row_tiles(t.tokens, [&](int row, int count) {
                small_product(count, q + row * t.qkv_stride, t.qkv_stride, t.head_size, keys,
                              padded, padded, weights, padded);
                float inverse[kRowTile];
                for (int r = 0; r < count; ++r) {
                    inverse[r] = softmax_row(weights + r * padded, t.tokens);
                }
                small_product(count, weights, padded, t.tokens, v, t.qkv_stride, t.head_size, sums,
                              t.head_size);
                for (int r = 0; r < count; ++r) {
                    for (int i = 0; i < t.head_size; i += kLanes) {
                        const F32 value = load(sums + r * t.head_size + i) * inverse[r];
                        Operand::put(out + (row + r) * t.out_stride + i, value);
                    }
                }
            });
        }
    }
}

}  // namespace dmpc::cpu::DMPC_TARGET
