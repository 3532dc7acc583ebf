// Attention over two or four tokens, which seldom fill a vector of keys: a lane holds one query and
// one key, so that one fold, one exponential and one division serve several heads.
namespace dmpc::cpu::DMPC_TARGET {

template <int Step, std::size_t... Lane>
inline F32 swap_lanes(F32 v, std::index_sequence<Lane...>) {
    return __builtin_shufflevector(v, v, (static_cast<int>(Lane) ^ Step)...);
}

/// Each run of Count lanes combined, in all its lanes.
template <int Count, int Step = 1, class Combine>
inline F32 over_runs(F32 v, Combine combine) {
    if constexpr (Step < Count) {
        return over_runs<Count, 2 * Step>(combine(v, swap_lanes<Step>(v, kEveryLane)), combine);
    } else {
        return v;
    }
}

/// Heads one after another, candidate by candidate.
template <class Element>
struct HeadWalk {
    explicit HeadWalk(const Attention& t)
        : q(static_cast<const Element*>(t.qkv)),
          out(static_cast<Element*>(t.out)),
          heads(t.heads),
          head_size(t.head_size),
          q_skip(t.tokens * t.qkv_stride - std::ptrdiff_t{3} * t.heads * t.head_size),
          out_skip(t.tokens * t.out_stride - std::ptrdiff_t{1} * t.heads * t.head_size) {}

    void advance() {
        q += 3 * head_size;
        out += head_size;
        if (++head < heads) return;
        head = 0;
        q += q_skip;
        out += out_skip;
    }

    const Element* q;
    Element* out;
    int head = 0;
    const int heads, head_size;
    const std::ptrdiff_t q_skip, out_skip;
};

/// Vectors: of a head, or 0 for any number of them.
template <class Operand, int Tokens, int Vectors>
void attention_of_few(const Attention& given) {
    using Element = typename Operand::Element;
    constexpr int pairs = Tokens * Tokens;
    constexpr int together = pairs < kLanes ? kLanes / pairs : 1;  // heads
    constexpr int folds = together * pairs / kLanes;
    const Attention t = given;
    const int head_size = Vectors ? Vectors * kLanes : t.head_size;
    alignas(64) float weights[folds * kLanes];
    HeadWalk<Element> asked(t), answered(t);

    for (int left = t.candidates * t.heads; left > 0; left -= together) {
        const int count = minimum(together, left);
        F32 dots[folds][kLanes]{};
        for (int item = 0; item < count; ++item, asked.advance()) {
            const Element* q = asked.q;
            const Element* k = q + t.head_size;
#pragma GCC unroll 4
            for (int query = 0; query < Tokens; ++query) {
                F32 sums[Tokens]{};
#pragma GCC unroll 4
                for (int i = 0; i < head_size; i += kLanes) {
                    const F32 asking = Operand::get(q + query * t.qkv_stride + i);
#pragma GCC unroll 4
                    for (int key = 0; key < Tokens; ++key) {
                        sums[key] += asking * Operand::get(k + key * t.qkv_stride + i);
                    }
                }
                const int at = item * pairs + query * Tokens;
                F32* to = &dots[at / kLanes][at % kLanes];
#pragma GCC unroll 4
                for (int key = 0; key < Tokens; ++key) to[key] = sums[key];
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < folds; ++i) {
            const F32 logits = sum_of_each(dots[i]);
            const F32 top = over_runs<Tokens>(logits, [](F32 a, F32 b) { return max(a, b); });
            const F32 weight = power_of_two<Operand::kRough>(logits - top);
            const F32 total = over_runs<Tokens>(weight, [](F32 a, F32 b) { return a + b; });
            store(weights + i * kLanes, weight / total);
        }
        for (int item = 0; item < count; ++item, answered.advance()) {
            const Element* v = answered.q + 2 * t.head_size;
#pragma GCC unroll 4
            for (int query = 0; query < Tokens; ++query) {
                const float* weight = weights + item * pairs + query * Tokens;
                put_row<Operand, Vectors>(
                    answered.out + query * t.out_stride, head_size, [&](int i) {
                        F32 sum = weight[0] * Operand::get(v + i);
#pragma GCC unroll 4
                        for (int key = 1; key < Tokens; ++key) {
                            sum += weight[key] * Operand::get(v + key * t.qkv_stride + i);
                        }
                        return sum;
                    });
            }
        }
    }
}

template <class Operand, int Tokens>
void attention_of_few(const Attention& t) {
    // Heads of 32 and 64 numbers with AVX-512, of 16 and 32 with AVX2.
    switch (t.head_size / kLanes) {
        case 2: return attention_of_few<Operand, Tokens, 2>(t);
        case 4: return attention_of_few<Operand, Tokens, 4>(t);
        default: return attention_of_few<Operand, Tokens, 0>(t);
    }
}

}  // namespace dmpc::cpu::DMPC_TARGET
