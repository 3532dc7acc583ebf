// Attention of each candidate over its own tokens, a tile of rows at a time: logits, softmax and
// the weighted sum of values never leave L1.
namespace dmpc::cpu::DMPC_TARGET {

/// Packed keys and values of a head, then logits, weights and sums of a tile of rows.
inline std::size_t attention_scratch(int tokens, int head_size) {
    const auto padded = static_cast<std::size_t>(round_up(tokens, kLanes));
    const auto size = static_cast<std::size_t>(head_size);
    return 2 * size * padded + kRowTile * (2 * padded + size);
}

/// Keys as the weights of a product: out (head size in words, tokens padded). A word is a float32
/// or a pair of bfloat16 neighbours, just what a packed weight is.
template <class Element>
inline void pack_keys(const Element* keys, std::ptrdiff_t stride, int tokens, int head_size,
                      std::uint32_t* out) {
    constexpr int elements = 4 / sizeof(Element);  // per word
    const int padded = round_up(tokens, kLanes);
    for (int word = 0; word < head_size / elements; word += kLanes) {
        const int words = minimum(kLanes, head_size / elements - word);
        for (int token = 0; token < padded; token += kLanes) {
            U32 rows[kLanes] = {};
            const int count = minimum(kLanes, tokens - token);
            for (int i = 0; i < count; ++i) {
                const Element* from = keys + (token + i) * stride + word * elements;
                if (words == kLanes) {
                    rows[i] = load_as<U32>(from);
                } else {
                    __builtin_memcpy(&rows[i], from, static_cast<std::size_t>(words) * 4);
                }
            }
            transpose(rows);
            for (int i = 0; i < words; ++i) store(out + (word + i) * padded + token, rows[i]);
        }
    }
}

/// Values as the weights of a product: the rows themselves, and how far apart they are.
inline const float* pack_values(const float* values, std::ptrdiff_t stride, int, int,
                                std::uint32_t*, std::ptrdiff_t& packed_stride) {
    packed_stride = stride;
    return values;
}

inline const std::uint32_t* pack_values(const std::uint16_t* values, std::ptrdiff_t stride,
                                        int tokens, int head_size, std::uint32_t* out,
                                        std::ptrdiff_t& packed_stride) {
    packed_stride = head_size;
    for (int token = 0; token < tokens; token += 2) {
        const std::uint16_t* even = values + token * stride;
        const std::uint16_t* odd = even + stride;
        for (int i = 0; i < head_size; i += kLanes) {
            U32 word = widen(even + i);
            if (token + 1 < tokens) {
                word |= widen(odd + i) << 16;
            }
            store(out + token / 2 * head_size + i, word);
        }
    }
    return out;
}

/// Turns rows of logits into unnormalised weights, 0 past `tokens`, and gives 1 / their sums. Step
/// by step for all rows, so that their latencies overlap.
template <class Operand>
inline void softmax(const float* logits, int rows, int tokens, typename Operand::Element* weights,
                    float* inverse) {
    const int padded = round_up(tokens, kLanes);
    const int last = padded - kLanes, valid = tokens - last;
    float peaks[kRowTile];
    for (int r = 0; r < rows; ++r) {
        const float* row = logits + r * padded;
        F32 top = keep_first(load(row + last), valid, splat(-3.0e38f));
        for (int i = 0; i < last; i += kLanes) top = max(top, load(row + i));
        peaks[r] = largest(top);
    }
    for (int r = 0; r < rows; ++r) {
        const float* row = logits + r * padded;
        typename Operand::Element* out = weights + r * padded;
        F32 total{};
        for (int i = 0; i < last; i += kLanes) {
            const F32 weight = exponential<Operand::kRough>(load(row + i) - peaks[r]);
            Operand::put(out + i, weight);
            total += weight;
        }
        const F32 open = exponential<Operand::kRough>(load(row + last) - peaks[r]);
        const F32 weight = keep_first(open, valid, F32{});
        Operand::put(out + last, weight);
        inverse[r] = sum(total + weight);
    }
    for (int r = 0; r < rows; ++r) inverse[r] = 1.0f / inverse[r];
}

/// out (rows, columns) = a (rows, steps x depth step) b (steps, columns).
template <class Operand>
inline void small_product(int rows, const typename Operand::Element* a, std::ptrdiff_t a_stride,
                          int steps, const typename Operand::Packed* b, std::ptrdiff_t b_stride,
                          int columns, float* out) {
    for (int column = 0; column < columns; column += kTileColumns) {
        const int vectors = minimum(kTileVectors, (columns - column) / kLanes);
        kTiles<Operand>.table[rows][vectors](a, a_stride, b + column, b_stride, steps, out + column,
                                             columns);
    }
}

template <class Operand>
void attention(const Attention& t) {
    using Element = typename Operand::Element;
    using Packed = typename Operand::Packed;
    const int padded = round_up(t.tokens, kLanes);
    auto* keys = reinterpret_cast<std::uint32_t*>(t.scratch);
    std::uint32_t* values = keys + std::ptrdiff_t{t.head_size} * padded;
    auto* logits = reinterpret_cast<float*>(values + std::ptrdiff_t{t.head_size} * padded);
    auto* weights = reinterpret_cast<Element*>(logits + kRowTile * padded);
    float* sums = logits + 2 * kRowTile * padded;
    const int value_steps = (t.tokens + Operand::kDepthStep - 1) / Operand::kDepthStep;

    for (int candidate = 0; candidate < t.candidates; ++candidate) {
        const std::ptrdiff_t first = std::ptrdiff_t{candidate} * t.tokens;
        for (int head = 0; head < t.heads; ++head) {
            const Element* q =
                static_cast<const Element*>(t.qkv) + first * t.qkv_stride + head * 3 * t.head_size;
            Element* out = static_cast<Element*>(t.out) + first * t.out_stride + head * t.head_size;
            pack_keys(q + t.head_size, t.qkv_stride, t.tokens, t.head_size, keys);
            std::ptrdiff_t v_stride;
            const Packed* v = pack_values(q + 2 * t.head_size, t.qkv_stride, t.tokens, t.head_size,
                                          values, v_stride);
            for_row_tiles(t.tokens, [&](int row, int count) {
                small_product<Operand>(
                    count, q + row * t.qkv_stride, t.qkv_stride, t.head_size / Operand::kDepthStep,
                    reinterpret_cast<const Packed*>(keys), padded, padded, logits);
                float inverse[kRowTile];
                softmax<Operand>(logits, count, t.tokens, weights, inverse);
                small_product<Operand>(count, weights, padded, value_steps, v, v_stride,
                                       t.head_size, sums);
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
