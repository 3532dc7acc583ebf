// Layer norm without affine part, then the modulation of adaptive layer norm. Blocks of kLanes rows
// share what has a long latency (sums across a vector, square root, division) and go through the
// passes one behind the other, so that no pass waits for the one before it. (A row at a time, held
// in registers, takes half as many instructions and twice as long: the chain of two such sums fills
// the processor's queues.)
namespace dmpc::cpu::DMPC_TARGET {

constexpr float kLayerNormEpsilon = 1e-5f;
constexpr int kMostRowVectors = 16;

/// How a row's variance is found. The difference of squares takes one pass and loses a few
/// roundings of float32: nothing beside those of bf16 or bytes, but not beside those of float32
/// products.
enum class Variance { kOnePass, kTwoPasses };

template <class Operand>
constexpr Variance kVarianceOf =
    std::is_same_v<Operand, Float32> ? Variance::kTwoPasses : Variance::kOnePass;

/// The passes over the rows of a norm, a block at a time. Vectors: of a row, or 0 where only the
/// norm knows.
template <int Vectors, Variance Kind>
class NormPasses {
public:
    explicit NormPasses(const Norm& n) : n_(n) {}

    int blocks() const { return (n_.rows + kLanes - 1) / kLanes; }
    int rows(int block) const { return minimum(kLanes, n_.rows - block * kLanes); }

    /// Mean and variance of distances from a row's first number: however far the row lies from
    /// zero, the difference of squares loses no more than that number stands out.
    void statistics(int block) {
        F32 totals[kLanes], squares[kLanes];
        float origins[kLanes] = {};
        for (int r = 0, count = rows(block); r < count; ++r) {
            origins[r] = *row(block, r);
            sums(block, r, origins[r], totals[r], squares[r]);
        }
        F32 away = sum_of_each(totals) / width();
        float* mean = mean_[block % kBlocks];
        store(mean, load(origins) + away);
        if constexpr (Kind == Variance::kTwoPasses) {
            for (int r = 0, count = rows(block); r < count; ++r) {
                sums(block, r, mean[r], totals[r], squares[r]);
            }
            away = sum_of_each(totals) / width();
        }
        const F32 variance = max(sum_of_each(squares) / width() - away * away, F32{});
        store(inverse_[block % kBlocks], 1.0f / square_root(variance + kLayerNormEpsilon));
    }

    /// Calls body(r, i, vectors) for the rows of a block: neighbouring vectors from place i,
    /// normal and modulated.
    template <class Body>
    void for_rows(int block, Body body) const {
        // The same for all rows; what is stored meanwhile cannot change them here.
        F32 scale[kHeld], shift[kHeld];
        for (int v = 0; v < Vectors; ++v) {
            scale[v] = load(n_.scale + v * kLanes);
            shift[v] = load(n_.shift + v * kLanes);
        }
        for (int r = 0, count = rows(block); r < count; ++r) {
            const float* x = row(block, r);
            const F32 mean = splat(mean_[block % kBlocks][r]);
            const F32 inverse = splat(inverse_[block % kBlocks][r]);
            const auto normed = [&](int i, F32 vector_scale, F32 vector_shift) {
                return (load(x + i) - mean) * inverse * vector_scale + vector_shift;
            };
            if constexpr (Vectors > 0) {
#pragma GCC unroll 16
                for (int v = 0; v < Vectors; v += 2) {
                    const int i = v * kLanes;
                    const F32 pair[] = {normed(i, scale[v], shift[v]),
                                        normed(i + kLanes, scale[v + 1], shift[v + 1])};
                    body(r, i, pair);
                }
            } else {
#pragma GCC unroll 4
                for (int i = 0; i < n_.padded; i += kLanes) {
                    const F32 one[] = {normed(i, load(n_.scale + i), load(n_.shift + i))};
                    body(r, i, one);
                }
            }
        }
    }

private:
    static constexpr int kBlocks = 4;  // between their first pass and their last
    static constexpr int kHeld = Vectors > 0 ? Vectors : 1;

    /// Sums over a row, by lane, of distances from a number and of their squares.
    void sums(int block, int r, float origin_of_row, F32& total_out, F32& square_out) const {
        const float* x = row(block, r);
        const F32 origin = splat(origin_of_row);
        F32 total{}, square{};
        for_vectors([&](int i) {
            F32 away = load(x + i) - origin;
            if (i == last()) away = keep_first(away, n_.width - last(), F32{});
            total += away;
            square += away * away;
        });
        total_out = total;
        square_out = square;
    }

    /// Calls body(i) for the starts of the vectors of a row.
    template <class Body>
    void for_vectors(Body body) const {
        if constexpr (Vectors > 0) {
#pragma GCC unroll 16
            for (int i = 0; i < Vectors; ++i) body(i * kLanes);
        } else {
#pragma GCC unroll 4
            for (int i = 0; i < n_.padded; i += kLanes) body(i);
        }
    }

    /// Where the last vector of a row begins, the only one that may hold padding.
    int last() const { return Vectors > 0 ? (Vectors - 1) * kLanes : n_.padded - kLanes; }
    float width() const { return static_cast<float>(n_.width); }
    const float* row(int block, int r) const {
        return n_.x + std::ptrdiff_t{block * kLanes + r} * n_.x_stride;
    }

    const Norm n_;
    float mean_[kBlocks][kLanes], inverse_[kBlocks][kLanes];
};

template <class Operand>
struct NormTo {
    template <int Vectors>
    static void run(const Norm& n) {
        NormPasses<Vectors, kVarianceOf<Operand>> passes(n);
        const int blocks = passes.blocks();
        for (int step = 0; step <= blocks; ++step) {
            if (step < blocks) passes.statistics(step);
            if (const int block = step - 1; block >= 0) {
                auto* out = static_cast<typename Operand::Element*>(n.out) +
                            std::ptrdiff_t{block} * kLanes * n.out_stride;
                passes.for_rows(block, [&](int r, int i, const auto& values) {
                    put_all<Operand>(out + r * n.out_stride + i, values);
                });
            }
        }
    }
};

/// Leaves a product's operand of bytes and their scales.
struct NormToBytes {
    template <int Vectors>
    static void run(const Norm& n) {
        NormPasses<Vectors, Variance::kOnePass> passes(n);
        QuantisedRows out(n.out, n.rows, n.padded);
        const int blocks = passes.blocks();
        // A block's rows between the pass that finds what is largest and the one that rounds.
        auto* held = reinterpret_cast<float*>(
            static_cast<char*>(n.out) + normed_bytes(n.rows, n.padded) -
            static_cast<std::size_t>(kLanes) * static_cast<std::size_t>(n.padded) * sizeof(float));
        float to_byte[kLanes];
        for (int step = 0; step < blocks + 2; ++step) {
            if (step < blocks) passes.statistics(step);
            if (const int block = step - 2; block >= 0) {
                round_rows<Vectors>(n, held, to_byte, out, block * kLanes, passes.rows(block));
            }
            if (const int block = step - 1; block >= 0 && block < blocks) {
                F32 peaks[kLanes] = {};
                passes.for_rows(block, [&](int r, int i, const auto& values) {
                    put_all<Float32>(held + r * n.padded + i, values);
                    for (const F32 value : values) peaks[r] = max(peaks[r], magnitude(value));
                });
                out.set_scales(block * kLanes, passes.rows(block), largest_of_each(peaks), to_byte);
            }
        }
    }

private:
    template <int Vectors>
    static void round_rows(const Norm& n, const float* held, const float* to_byte,
                           const QuantisedRows& out, int first, int rows) {
        const int padded = Vectors > 0 ? Vectors * kLanes : n.padded;
        for (int r = 0; r < rows; ++r, held += padded) {
            Byte* bytes = out.row(first + r);
            const F32 factor = splat(to_byte[r]);
            int i = 0;
#pragma GCC unroll 8
            for (; i + 2 * kLanes <= padded; i += 2 * kLanes) {
                const F32 pair[] = {load(held + i), load(held + i + kLanes)};
                put_all_bytes(bytes + i, pair, factor);
            }
            if (i < padded) put_bytes(bytes + i, load(held + i), factor);
        }
    }
};

/// The variant of Norms for the number of vectors of a row: those of usual widths, or any.
template <class Norms, int Vectors = kMostRowVectors>
void norm(const Norm& n) {
    if constexpr (Vectors == 1) {
        Norms::template run<0>(n);
    } else if (n.padded == Vectors * kLanes) {
        Norms::template run<Vectors>(n);
    } else {
        norm<Norms, Vectors / 2>(n);
    }
}

}  // namespace dmpc::cpu::DMPC_TARGET
