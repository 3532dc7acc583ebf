// Products of bytes: weights with a scale per column, activations with a scale per row, both
// symmetric; sums are exact integers. Activations come as bfloat16 and are quantised when a product
// begins.
namespace dmpc::cpu::DMPC_TARGET {

constexpr float kLargestByte = 127.0f;
#if defined(__AVX2__) && !defined(__AVX512F__)
// Bytes are kept in 16 bits, whose pairs one instruction multiplies and adds. (That for bytes adds
// in 16 bits, which two products overflow, and needs one side unsigned.)
using Byte = std::int16_t;
constexpr int kByteOffset = 0;
inline void store_words(Byte* to, U32 words) { store_low_halves(to, words); }
inline void store_words(Byte* to, U32 a, U32 b) { store_low_halves(to, a, b); }
#else
using Byte = std::uint8_t;
// The dot product takes one side unsigned: activations are stored with this added, and what that
// adds to a sum, kByteOffset times the column's sum of weights, is taken off again.
constexpr int kByteOffset = 128;
inline void store_words(Byte* to, U32 words) { store_low_bytes(to, words); }
inline void store_words(Byte* to, U32 a, U32 b) { store_low_bytes(to, a, b); }
#endif

inline std::size_t quantised_bytes(int rows, int depth) {
    const auto count = static_cast<std::size_t>(rows);
    return (count * sizeof(float) + 63) / 64 * 64 +
           count * static_cast<std::size_t>(depth) * sizeof(Byte);
}

inline void put_bytes(Byte* to, F32 value, F32 to_byte) {
    store_words(to, bits<U32>(value * to_byte + (kRounding + kByteOffset)));
}

inline void put_all_bytes(Byte* to, const F32 (&values)[1], F32 to_byte) {
    put_bytes(to, values[0], to_byte);
}
inline void put_all_bytes(Byte* to, const F32 (&values)[2], F32 to_byte) {
    constexpr float shift = kRounding + kByteOffset;
    store_words(to, bits<U32>(values[0] * to_byte + shift), bits<U32>(values[1] * to_byte + shift));
}

inline F32 magnitude(F32 v) { return bits<F32>(bits<U32>(v) & 0x7FFFFFFFu); }

/// The rows of a product as offset bytes, and what one unit of each row is worth: views of
/// quantised_bytes(rows, depth).
class QuantisedRows {
public:
    QuantisedRows(void* memory, int rows, int depth)
        : scales_(static_cast<float*>(memory)),
          bytes_(reinterpret_cast<Byte*>(static_cast<char*>(memory) + quantised_bytes(rows, 0))),
          depth_(depth) {}
    Byte* row(int row) const { return bytes_ + std::ptrdiff_t{row} * depth_; }
    std::ptrdiff_t stride() const { return depth_; }
    float scale(int row) const { return scales_[row]; }

    /// Scales of up to kLanes rows from their largest magnitudes; inverse: what makes a number a
    /// byte.
    void set_scales(int first, int rows, F32 peaks, float* inverse) {
        float scales[kLanes];
        store(scales, peaks / kLargestByte);
        store(inverse, peaks > F32{} ? kLargestByte / peaks : F32{});
        __builtin_memcpy(scales_ + first, scales, static_cast<std::size_t>(rows) * sizeof(float));
    }

private:
    float* scales_;
    Byte* bytes_;
    int depth_;
};

/// Of what a norm leaves, and behind it room for the rows that it has at hand.
inline std::size_t normed_bytes(int rows, int depth) {
    return (quantised_bytes(rows, depth) + 63) / 64 * 64 +
           static_cast<std::size_t>(kLanes) * static_cast<std::size_t>(depth) * sizeof(float);
}

/// Rows that a norm has left as bytes.
class QuantisedSource : public QuantisedRows {
public:
    explicit QuantisedSource(const Product& p)
        : QuantisedRows(const_cast<void*>(p.a), p.rows, p.depth) {}
};

/// Rows of bfloat16, quantised into the product's scratch.
class QuantisingSource : public QuantisedRows {
public:
    explicit QuantisingSource(const Product& p) : QuantisedRows(p.scratch, p.rows, p.depth) {
        const auto* a = static_cast<const Bfloat16::Element*>(p.a);
        for (int first = 0; first < p.rows; first += kLanes) {
            const int rows = minimum(kLanes, p.rows - first);
            F32 peaks[kLanes];
            for (int row = 0; row < rows; ++row) {
                peaks[row] = peak(a + (first + row) * p.a_stride, p.depth);
            }
            float inverse[kLanes];
            set_scales(first, rows, largest_of_each(peaks), inverse);
            for (int row = 0; row < rows; ++row) {
                const Bfloat16::Element* from = a + (first + row) * p.a_stride;
                Byte* to = this->row(first + row);
                quantise(from, p.depth, splat(inverse[row]), to);
            }
        }
    }

private:
#if defined(__AVX512F__)
    static void quantise(const std::uint16_t* from, int depth, F32 to_byte, Byte* to) {
        int i = 0;
        // Numbers of even and of odd places apart, since that needs no moves between lanes.
        constexpr float shift = kRounding + kByteOffset;
#pragma GCC unroll 4
        for (; i + 2 * kLanes <= depth; i += 2 * kLanes) {
            const U32 pairs = load_as<U32>(from + i);
            const U32 even = bits<U32>(bits<F32>(pairs << 16) * to_byte + shift);
            const U32 odd = bits<U32>(bits<F32>(pairs & 0xFFFF0000u) * to_byte + shift);
            const __m512i words =
                _mm512_mask_blend_epi16(0xAAAAAAAAu, bits<__m512i>(even), bits<__m512i>(odd << 16));
            store(to + i, _mm512_cvtepi16_epi8(words));
        }
        for (; i < depth; i += kLanes) {
            put_bytes(to + i, bits<F32>(widen(from + i) << 16), to_byte);
        }
    }

    /// Lanes whose largest is the row's largest magnitude, taken two numbers to a word.
    static F32 peak(const std::uint16_t* from, int depth) {
        constexpr std::uint32_t magnitudes = 0x7FFF7FFFu;
        U32 top{};
        int i = 0;
#pragma GCC unroll 4
        for (; i + 2 * kLanes <= depth; i += 2 * kLanes) {
            top = larger_halves(top, load_as<U32>(from + i) & magnitudes);
        }
        if (i < depth) top = larger_halves(top, widen(from + i) & magnitudes);
        return bits<F32>(larger_halves(top & 0xFFFF0000u, top << 16));
    }
#else
    static void quantise(const float* from, int depth, F32 to_byte, Byte* to) {
        int i = 0;
#pragma GCC unroll 4
        for (; i + 2 * kLanes <= depth; i += 2 * kLanes) {
            put_all_bytes(to + i, {load(from + i), load(from + i + kLanes)}, to_byte);
        }
        if (i < depth) put_bytes(to + i, load(from + i), to_byte);
    }

    /// Lanes whose largest is the row's largest magnitude.
    static F32 peak(const float* from, int depth) {
        F32 top{};
#pragma GCC unroll 4
        for (int i = 0; i < depth; i += kLanes) top = max(top, magnitude(load(from + i)));
        return top;
    }
#endif
};

struct Int8 {
    using Element = Byte;
    using Packed = std::uint32_t;  // neighbouring depths, the first in the low bits
    static constexpr int kDepthStep = 4 / sizeof(Byte);
    static constexpr int kColumnWords = 2;  // scale, then what the offset adds
    using Weights = U32;
    using Sums = I32;

    static Weights weights(const Packed* from) { return load_as<U32>(from); }

    static I32 dot(I32 sums, const Element* a, Weights w) {
        std::uint32_t word;
        __builtin_memcpy(&word, a, sizeof word);
#if defined(__AVX512VNNI__)
        // Written as assembly because gcc moves the sums through memory around the intrinsic.
        asm("vpdpbusd %[w], %[a], %[sums]" : [sums] "+v"(sums) : [a] "v"(splat(word)), [w] "v"(w));
        return sums;
#elif defined(__AVX2__) && !defined(__AVX512F__)
        return sums + bits<I32>(_mm256_madd_epi16(bits<__m256i>(splat(word)), bits<__m256i>(w)));
#else
        for (int byte = 0; byte < 4; ++byte) {
            const auto value = static_cast<std::int32_t>(word >> (8 * byte) & 0xFFu);
            sums += value * (bits<I32>(w << (24 - 8 * byte)) >> 24);
        }
        return sums;
#endif
    }

    static void pack_column(const float* weight, int depth, Packed* to, int stride) {
        float peak = 0.0f;
        for (int k = 0; k < depth; ++k) {
            const float size = __builtin_fabsf(weight[k]);
            peak = size > peak ? size : peak;
        }
        const float inverse = peak > 0.0f ? kLargestByte / peak : 0.0f;
        int total = 0;
        constexpr int bits_each = 8 * sizeof(Byte);
        for (int k = 0; k < depth; k += kDepthStep, to += stride) {
            std::uint32_t word = 0;
            for (int i = 0; i < kDepthStep; ++i) {
                const int value = static_cast<int>(__builtin_rintf(weight[k + i] * inverse));
                total += value;
                word |= (static_cast<std::uint32_t>(value) & ((1u << bits_each) - 1u))
                        << (bits_each * i);
            }
            *to = word;
        }
        to[0] = bits<std::uint32_t>(peak / kLargestByte);
        to[stride] = static_cast<std::uint32_t>(kByteOffset * total);
    }

    /// Integers back to numbers: columns of vector `v` of a tile.
    struct Finish {
        Finish() = default;
        Finish(const Packed* tile, int depth, int v) {
            const Packed* words =
                tile + std::ptrdiff_t{depth / kDepthStep} * kTileColumns + v * kLanes;
            scale = bits<F32>(load_as<U32>(words));
            offset = load_as<I32>(words + kTileColumns);
        }
        F32 operator()(const float* sums, const QuantisedRows& source, int row) const {
            const F32 exact = __builtin_convertvector(load_as<I32>(sums) - offset, F32);
            return exact * source.scale(row) * scale + bias;
        }
        /// The gate of a residual becomes part of what the sums are multiplied by anyway.
        void gated_by(F32 gate) {
            scale *= gate;
            bias *= gate;
        }
        static F32 joined(F32 c, F32, F32 value) { return c + value; }
        F32 scale, bias;
        I32 offset;
    };
};

}  // namespace dmpc::cpu::DMPC_TARGET
