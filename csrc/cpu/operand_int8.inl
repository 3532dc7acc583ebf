// Products of bytes: weights with a scale per column, activations with a scale per row, both
// symmetric; sums are exact integers. Activations come as bfloat16 and are quantised when a product
// begins.
namespace dmpc::cpu::DMPC_TARGET {

constexpr float kLargestByte = 127.0f;
// The dot product takes one side unsigned: activations are stored with this added, and what that
// adds to a sum, kByteOffset times the column's sum of weights, is taken off again.
constexpr int kByteOffset = 128;

inline std::size_t quantised_bytes(int rows, int depth) {
    const auto count = static_cast<std::size_t>(rows);
    return (count * sizeof(float) + 63) / 64 * 64 + count * static_cast<std::size_t>(depth);
}

/// The rows of a product as offset bytes, and what one unit of each row is worth.
class QuantisedSource {
public:
    explicit QuantisedSource(const Product& p)
        : scales_(static_cast<float*>(p.scratch)),
          bytes_(static_cast<std::uint8_t*>(p.scratch) + quantised_bytes(p.rows, 0)),
          depth_(p.depth) {
        for (int row = 0; row < p.rows; ++row) {
            quantise(static_cast<const std::uint16_t*>(p.a) + row * p.a_stride, row);
        }
    }
    const std::uint8_t* row(int row) const { return bytes_ + std::ptrdiff_t{row} * depth_; }
    std::ptrdiff_t stride() const { return depth_; }
    float scale(int row) const { return scales_[row]; }

private:
    void quantise(const std::uint16_t* from, int row) {
        F32 top{};
        for (int i = 0; i < depth_; i += kLanes) {
            top = max(top, bits<F32>((widen(from + i) & 0x7FFFu) << 16));
        }
        const float peak = largest(top);
        const float inverse = peak > 0.0f ? kLargestByte / peak : 0.0f;
        scales_[row] = peak / kLargestByte;
        std::uint8_t* to = bytes_ + std::ptrdiff_t{row} * depth_;
        for (int i = 0; i < depth_; i += kLanes) {
            // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
            const F32 shifted =
                bits<F32>(widen(from + i) << 16) * inverse + (12582912.0f + kByteOffset);
            store_low_bytes(to + i, bits<U32>(shifted));
        }
    }

    float* scales_;
    std::uint8_t* bytes_;
    int depth_;
};

struct Int8 {
    using Element = std::uint8_t;
    using Packed = std::uint32_t;  // four depths, the first in the low byte
    static constexpr int kDepthStep = 4;
    static constexpr int kColumnWords = 2;  // scale, then what the offset adds
    using Weights = U32;
    using Sums = I32;
    using Source = QuantisedSource;

    static Weights weights(const Packed* from) { return load_as<U32>(from); }

    static I32 dot(I32 sums, const Element* a, Weights w) {
        std::uint32_t four;
        __builtin_memcpy(&four, a, sizeof four);
#if defined(__AVX512VNNI__)
        // Written as assembly because gcc moves the sums through memory around the intrinsic.
        asm("vpdpbusd %[w], %[a], %[sums]" : [sums] "+v"(sums) : [a] "v"(splat(four)), [w] "v"(w));
        return sums;
#else
        for (int byte = 0; byte < 4; ++byte) {
            const auto value = static_cast<std::int32_t>(four >> (8 * byte) & 0xFFu);
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
        for (int k = 0; k < depth; k += 4, to += stride) {
            std::uint32_t word = 0;
            for (int i = 0; i < 4; ++i) {
                const int value = static_cast<int>(__builtin_rintf(weight[k + i] * inverse));
                total += value;
                word |= static_cast<std::uint32_t>(value & 0xFF) << (8 * i);
            }
            *to = word;
        }
        to[0] = bits<std::uint32_t>(peak / kLargestByte);
        to[stride] = static_cast<std::uint32_t>(kByteOffset * total);
    }

    /// Integers back to numbers: columns of vector `v` of a tile.
    struct Finish {
        Finish(const Packed* tile, int depth, int v) {
            const Packed* words =
                tile + std::ptrdiff_t{depth / kDepthStep} * kTileColumns + v * kLanes;
            scale = bits<F32>(load_as<U32>(words));
            offset = load_as<I32>(words + kTileColumns);
        }
        F32 operator()(const float* sums, const QuantisedSource& source, int row) const {
            const I32 exact = load_as<I32>(sums) - offset;
            return __builtin_convertvector(exact, F32) * (scale * source.scale(row));
        }
        F32 scale;
        I32 offset;
    };
};

}  // namespace dmpc::cpu::DMPC_TARGET
