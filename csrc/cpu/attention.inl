// Attention of each candidate over its own tokens, a block of rows at a time: logits, softmax and
// the weighted sum of values never leave L1. Logits are powers of two: log2(e) and the softmax
// scale are folded into q.
namespace dmpc::cpu::DMPC_TARGET {

/// Rows of logits that become weights together: enough that the latencies of one kLanes of them,
/// of the folds above all, hide behind the other's work.
constexpr int kSoftmaxRows = 2 * kLanes;

/// Packed keys and values of a head, then logits, weights and sums of a block of rows.
inline std::size_t attention_scratch(int tokens, int head_size) {
    const auto padded = static_cast<std::size_t>(round_up(tokens, kLanes));
    const auto size = static_cast<std::size_t>(head_size);
    return 2 * size * padded + kSoftmaxRows * (2 * padded + size);
}

/// A square of keys, kLanes tokens of kLanes words or of half as many, turned: words of all tokens.
/// Half a square is made of two halves of the tokens. from(i) is what token i holds.
template <bool Half, class From>
inline void turn_keys(From from, std::uint32_t* out, int out_stride) {
    constexpr int count = Half ? kLanes / 2 : kLanes;
    U32 rows[count];
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i) {
        rows[i] = Half ? join_halves(from(i), from(i + kLanes / 2)) : load_as<U32>(from(i));
    }
    transpose(rows);
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i) store(out + std::ptrdiff_t{i} * out_stride, rows[i]);
}

/// Keys as the weights of a product: out (head size in words, tokens padded). A word is a float32
/// or a pair of bfloat16 neighbours, just what a packed weight is.
template <class Element>
inline void pack_keys(const Element* keys, std::ptrdiff_t stride, int tokens, int head_size,
                      std::uint32_t* out) {
    constexpr int elements = 4 / sizeof(Element);
    alignas(64) static constexpr Element zeros[kLanes * elements] = {};
    const int padded = round_up(tokens, kLanes), words = head_size / elements;
    for (int token = 0; token < padded; token += kLanes) {
        for (int word = 0; word < words; word += kLanes) {
            const Element* first = keys + token * stride + word * elements;
            std::uint32_t* to = out + std::ptrdiff_t{word} * padded + token;
            const auto turn = [&](auto from) {
                // Of bfloat16, the last words may fill half a vector.
                if (words - word < kLanes) {
                    turn_keys<true>(from, to, padded);
                } else {
                    turn_keys<false>(from, to, padded);
                }
            };
            if (token + kLanes <= tokens) {
                turn([=](int i) { return first + i * stride; });
            } else {
                const int count = tokens - token;
                turn([=](int i) { return i < count ? first + i * stride : zeros; });
            }
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
    for (int i = 0; i < head_size; i += kLanes) {
        const std::uint16_t* even = values + i;
        std::uint32_t* to = out + i;
#pragma GCC unroll 4
        for (int token = 0; token + 1 < tokens; token += 2) {
            store(to, interleave(even, even + stride));
            even += 2 * stride;
            to += head_size;
        }
        if (tokens % 2) store(to, widen(even));
    }
    return out;
}

/// Hides logits past `tokens`.
inline void mask(float* logits, int rows, int tokens) {
    const int padded = round_up(tokens, kLanes), last = padded - kLanes;
    for (int r = 0; r < rows; ++r) {
        float* end = logits + r * padded + last;
        store(end, keep_first(load(end), tokens - last, splat(-3.0e38f)));
    }
}

/// One row's weights, 2^(logit - top); gives lanes that add up to their sum.
template <class Operand, int Vectors>
inline F32 weigh(const float* logits, int padded, F32 top, typename Operand::Element* weights) {
    F32 total{};
    put_row<Operand, Vectors>(weights, padded, [&](int i) {
        const F32 weight = power_of_two<Operand::kRough>(load(logits + i) - top);
        total += weight;
        return weight;
    });
    return total;
}

/// Largest logit and smallest sum of weights that need no row's largest logit subtracted first:
/// neither a weight nor what is summed with them can then leave the range of numbers.
constexpr float kPlainLogit = 64.0f, kPlainSum = 1.0f / (1ull << 60);

/// Turns kLanes or fewer rows of logits into unnormalised weights and gives 1 / their sums.
/// Vectors: of a row, or 0 for any number of them. Weights of logits as they are, if those allow.
template <class Operand, int Vectors>
inline bool plain_softmax(const float* logits, int rows, int padded,
                          typename Operand::Element* weights, float* inverse) {
    F32 each[kLanes], top = load(logits);
#pragma GCC unroll 2
    for (int r = 0; r < rows; ++r) {
        F32 total{};
        put_row<Operand, Vectors>(weights + r * padded, padded, [&](int i) {
            const F32 logit = load(logits + r * padded + i);
            const F32 weight = power_of_two<Operand::kRough>(logit);
            top = max(top, logit);
            total += weight;
            return weight;
        });
        each[r] = total;
    }
    for (int r = rows; r < kLanes; ++r) each[r] = splat(1.0f);
    const F32 sums = sum_of_each(each);
    store(inverse, 1.0f / sums);
    return everywhere(bits<I32>(top <= kPlainLogit) & bits<I32>(sums >= kPlainSum));
}

/// The same for any logits.
template <class Operand, int Vectors>
inline void careful_softmax(const float* logits, int rows, int padded,
                            typename Operand::Element* weights, float* inverse) {
    F32 each[kLanes];
    for (int r = 0; r < rows; ++r) {
        const float* row = logits + r * padded;
        F32 top = load(row);
        for (int i = kLanes; i < padded; i += kLanes) top = max(top, load(row + i));
        each[r] = top;
    }
    store(inverse, largest_of_each(each));
    for (int r = 0; r < rows; ++r) {
        each[r] = weigh<Operand, Vectors>(logits + r * padded, padded, splat(inverse[r]),
                                          weights + r * padded);
    }
    store(inverse, 1.0f / sum_of_each(each));
}

/// Turns up to kSoftmaxRows rows of logits into unnormalised weights and gives 1 / their sums.
template <class Operand, int Vectors>
inline void softmax(const float* logits, int rows, int padded, typename Operand::Element* weights,
                    float* inverse) {
    if (Vectors) padded = Vectors * kLanes;
    for (int first = 0; first < rows; first += kLanes) {
        const int count = minimum(kLanes, rows - first);
        const std::ptrdiff_t at = std::ptrdiff_t{first} * padded;
        if (!plain_softmax<Operand, Vectors>(logits + at, count, padded, weights + at,
                                             inverse + first)) {
            careful_softmax<Operand, Vectors>(logits + at, count, padded, weights + at,
                                              inverse + first);
        }
    }
}

/// out (rows, columns) = a (rows, steps x depth step) b (steps, columns).
template <class Operand>
inline void small_product(int rows, const typename Operand::Element* a, std::ptrdiff_t a_stride,
                          int steps, const typename Operand::Packed* b, std::ptrdiff_t b_stride,
                          int columns, float* out) {
    // Tiles that divide the usual numbers of tokens.
    constexpr int tall = kTallTile, wide = kTallTile / 2;
    for (int column = 0; column < columns; column += kTileColumns) {
        const int vectors = minimum(kTileVectors, (columns - column) / kLanes);
        const int most = vectors == 1 ? tall : wide;
        for (int row = 0; row < rows; row += most) {
            kTiles<Operand>.table[minimum(most, rows - row)][vectors](
                a + row * a_stride, a_stride, b + column, b_stride, steps,
                out + row * columns + column, columns);
        }
    }
}

/// Rows of sums, each times its factor. Vectors: of a row, or 0 for any number of them.
template <class Operand, int Vectors>
inline void scale_rows(const float* sums, const float* factors, int rows, int columns,
                       typename Operand::Element* out, std::ptrdiff_t out_stride) {
    if (Vectors) columns = Vectors * kLanes;
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
        const F32 factor = splat(factors[r]);
        put_row<Operand, Vectors>(out, columns, [&](int i) { return load(sums + i) * factor; });
        sums += columns;
        out += out_stride;
    }
}

template <class Operand>
void attention(const Attention& given) {
    using Element = typename Operand::Element;
    using Packed = typename Operand::Packed;
    if (given.tokens == 2) return attention_of_few<Operand, 2>(given);
    if (given.tokens == 4) return attention_of_few<Operand, 4>(given);
    const Attention t = given;  // a copy, which no store can change
    const int padded = round_up(t.tokens, kLanes);
    auto* keys = reinterpret_cast<std::uint32_t*>(t.scratch);
    std::uint32_t* values = keys + std::ptrdiff_t{t.head_size} * padded;
    auto* logits = reinterpret_cast<float*>(values + std::ptrdiff_t{t.head_size} * padded);
    auto* weights = reinterpret_cast<Element*>(logits + kSoftmaxRows * padded);
    float* sums = logits + 2 * kSoftmaxRows * padded;
    float inverse[kSoftmaxRows];
    const auto softmax_rows = padded == kLanes       ? softmax<Operand, 1>
                              : padded == 2 * kLanes ? softmax<Operand, 2>
                                                     : softmax<Operand, 0>;
    const auto write_rows = t.head_size == kLanes       ? scale_rows<Operand, 1>
                            : t.head_size == 2 * kLanes ? scale_rows<Operand, 2>
                                                        : scale_rows<Operand, 0>;
    const int key_steps = t.head_size / Operand::kDepthStep;
    const int value_steps = (t.tokens + Operand::kDepthStep - 1) / Operand::kDepthStep;

    for (int item = 0; item < t.candidates * t.heads; ++item) {
        const int head = item % t.heads;
        const std::ptrdiff_t first = std::ptrdiff_t{item / t.heads} * t.tokens;
        const Element* q =
            static_cast<const Element*>(t.qkv) + first * t.qkv_stride + head * 3 * t.head_size;
        Element* out = static_cast<Element*>(t.out) + first * t.out_stride + head * t.head_size;
        pack_keys(q + t.head_size, t.qkv_stride, t.tokens, t.head_size, keys);
        std::ptrdiff_t v_stride;
        const Packed* v =
            pack_values(q + 2 * t.head_size, t.qkv_stride, t.tokens, t.head_size, values, v_stride);
        for (int row = 0; row < t.tokens; row += kSoftmaxRows) {
            const int count = minimum(kSoftmaxRows, t.tokens - row);
            small_product<Operand>(count, q + row * t.qkv_stride, t.qkv_stride, key_steps,
                                   reinterpret_cast<const Packed*>(keys), padded, padded, logits);
            if (t.tokens < padded) mask(logits, count, t.tokens);
            softmax_rows(logits, count, padded, weights, inverse);
            small_product<Operand>(count, weights, padded, value_steps, v, v_stride, t.head_size,
                                   sums);
            write_rows(sums, inverse, count, t.head_size, out + row * t.out_stride, t.out_stride);
        }
    }
}

}  // namespace dmpc::cpu::DMPC_TARGET
