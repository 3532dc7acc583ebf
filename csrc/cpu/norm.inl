// Layer norm without affine part, then the modulation of adaptive layer norm. Blocks of kLanes rows
// share what has a long latency (sums across a vector, square root, division) and go through the
// passes one behind the other, so that no pass waits for the one before it. (A row at a time, held
// in registers, takes half as many instructions and twice as long: the chain of two such sums fills
// the processor's queues.)
namespace dmpc::cpu::DMPC_TARGET {

constexpr float kLayerNormEpsilon = 1e-5f;
constexpr int kMostRowVectors = 16;

/// The passes over the rows of a norm, a block at a time. Vectors: of a row, or 0 where only the
/// norm knows.
template <int Vectors>
class NormPasses {
public:
    explicit NormPasses(const Norm& n) : n_(n) {}

    int blocks() const { return (n_.rows + kLanes - 1) / kLanes; }
    int rows(int block) const { return minimum(kLanes, n_.rows - block * kLanes); }

    void mean(int block) {
        F32 each[kLanes];
        for (int r = 0, count = rows(block); r < count; ++r) {
            const float* x = row(block, r);
            F32 total{};
            for_vectors([&](int i) { total += load(x + i); });
            each[r] = total;
        }
        store(mean_[block % kBlocks], sum_of_each(each) / width());
    }

    void deviation(int block) {
        const int last = n_.padded - kLanes;
        F32 each[kLanes];
        for (int r = 0, count = rows(block); r < count; ++r) {
            const float* x = row(block, r);
            const F32 mean = splat(mean_[block % kBlocks][r]);
            F32 squares{};
            for_vectors([&](int i) {
                F32 centred = load(x + i) - mean;
                if (i == last) centred = keep_first(centred, n_.width - last, F32{});
                squares += centred * centred;
            });
            each[r] = squares;
        }
        const F32 variance = sum_of_each(each) / width();
        store(inverse_[block % kBlocks], 1.0f / square_root(variance + kLayerNormEpsilon));
    }

    /// Calls body(i, vector) for the vectors of a row, normal and modulated.
    template <class Body>
    void for_row(int block, int r, Body body) const {
        const float *x = row(block, r), *scale = n_.scale, *shift = n_.shift;
        const F32 mean = splat(mean_[block % kBlocks][r]);
        const F32 inverse = splat(inverse_[block % kBlocks][r]);
        for_vectors([&](int i) {
            body(i, (load(x + i) - mean) * inverse * load(scale + i) + load(shift + i));
        });
    }

private:
    static constexpr int kBlocks = 4;  // between their first pass and their last

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
        NormPasses<Vectors> passes(n);
        const int blocks = passes.blocks();
        for (int step = 0; step < blocks + 2; ++step) {
            if (step < blocks) passes.mean(step);
            if (step >= 1 && step <= blocks) passes.deviation(step - 1);
            if (const int block = step - 2; block >= 0) {
                auto* out = static_cast<typename Operand::Element*>(n.out) +
                            std::ptrdiff_t{block} * kLanes * n.out_stride;
                for (int r = 0, count = passes.rows(block); r < count; ++r) {
                    passes.for_row(block, r,
                                   [&](int i, F32 value) { Operand::put(out + i, value); });
                    out += n.out_stride;
                }
            }
        }
    }
};

/// Leaves a product's operand of bytes and their scales.
struct NormToBytes {
    template <int Vectors>
    static void run(const Norm& n) {
        NormPasses<Vectors> passes(n);
        QuantisedRows out(n.out, n.rows, n.padded);
        const int blocks = passes.blocks();
        float to_byte[2][kLanes];
        for (int step = 0; step < blocks + 3; ++step) {
            if (step < blocks) passes.mean(step);
            if (step >= 1 && step <= blocks) passes.deviation(step - 1);
            if (const int block = step - 2; block >= 0 && block < blocks) {
                F32 peaks[kLanes];
                const int count = passes.rows(block);
                for (int r = 0; r < count; ++r) {
                    F32 peak{};
                    passes.for_row(block, r,
                                   [&](int, F32 value) { peak = max(peak, magnitude(value)); });
                    peaks[r] = peak;
                }
                out.set_scales(block * kLanes, count, largest_of_each(peaks), to_byte[block % 2]);
            }
            if (const int block = step - 3; block >= 0) {
                for (int r = 0, count = passes.rows(block); r < count; ++r) {
                    std::uint8_t* bytes = out.row(block * kLanes + r);
                    const F32 factor = splat(to_byte[block % 2][r]);
                    passes.for_row(block, r,
                                   [&](int i, F32 value) { put_bytes(bytes + i, value, factor); });
                }
            }
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
