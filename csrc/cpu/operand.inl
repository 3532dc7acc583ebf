// The number types that enter matrix products: how an activation is stored, how weights are packed,
// and one step of a dot product. Packed weights are zeroed memory, filled column by column.
namespace dmpc::cpu::DMPC_TARGET {

/// Rows of a product that are read as they are.
template <class Element>
class PlainSource {
public:
    explicit PlainSource(const Product& p)
        : a_(static_cast<const Element*>(p.a)), stride_(p.a_stride) {}
    const Element* row(int row) const { return a_ + row * stride_; }
    std::ptrdiff_t stride() const { return stride_; }

private:
    const Element* a_;
    std::ptrdiff_t stride_;
};

/// Sums that are what they should be.
struct PlainFinish {
    PlainFinish() = default;
    PlainFinish(const void*, int, int) {}
    template <class Source>
    F32 operator()(const float* sums, const Source&, int) const {
        return load(sums) + bias;
    }
    void gated_by(F32) {}
    static F32 joined(F32 c, F32 gate, F32 value) { return c + gate * value; }
    F32 bias;
};

struct Float32 {
    using Element = float;
    using Packed = float;
    static constexpr int kDepthStep = 1;    // depth that one packed vector covers
    static constexpr bool kRough = false;   // whether its rounding hides rough functions
    static constexpr int kColumnWords = 0;  // packed per column besides its weights
    using Weights = F32;
    using Sums = F32;
    using Finish = PlainFinish;

    static Weights weights(const Packed* from) { return load(from); }
    static F32 dot(F32 sums, const Element* a, Weights w) { return sums + *a * w; }
    static F32 get(const Element* from) { return load(from); }
    static void put(Element* to, F32 value) { store(to, value); }
    static void put(Element* to, F32 first, F32 second) {
        put(to, first);
        put(to + kLanes, second);
    }
    static void pack_column(const float* weight, int depth, Packed* to, int stride) {
        for (int k = 0; k < depth; ++k) to[k * stride] = weight[k];
    }
};

inline std::uint32_t to_bfloat16(std::uint32_t word) {
    return (word + 0x7FFFu + ((word >> 16) & 1u)) >> 16;
}

#if defined(__AVX512F__)

/// Pairs of consecutive depths share a 32-bit lane, the even one in the low half.
struct Bfloat16 {
    using Element = std::uint16_t;
    using Packed = std::uint32_t;
    static constexpr int kDepthStep = 2;
    static constexpr bool kRough = true;
    static constexpr int kColumnWords = 0;
    using Weights = U32;
    using Sums = F32;
    using Finish = PlainFinish;

    static Weights weights(const Packed* from) { return load_as<U32>(from); }

    static F32 dot(F32 sums, const Element* a, Weights w) {
        std::uint32_t pair;
        __builtin_memcpy(&pair, a, sizeof pair);
#if defined(__AVX512BF16__)
        return bits<F32>(
            _mm512_dpbf16_ps(bits<__m512>(sums), bits<__m512bh>(splat(pair)), bits<__m512bh>(w)));
#else
        const float low = bits<float>(pair << 16);
        const float high = bits<float>(pair & 0xFFFF0000u);
        sums = sums + low * bits<F32>(w << 16);
        return sums + high * bits<F32>(w & 0xFFFF0000u);
#endif
    }

    static F32 get(const Element* from) { return bits<F32>(widen(from) << 16); }
    static void put(Element* to, F32 value) {
#if defined(__AVX512BF16__)
        store(to, _mm512_cvtneps_pbh(bits<__m512>(value)));
#else
        const U32 word = bits<U32>(value);
        const U32 rounded = (word + 0x7FFFu + ((word >> 16) & 1u)) >> 16;
        store(to, __builtin_convertvector(rounded, U16));
#endif
    }

    static void put(Element* to, F32 first, F32 second) {
#if defined(__AVX512BF16__)
        store(to, _mm512_cvtne2ps_pbh(bits<__m512>(second), bits<__m512>(first)));
#else
        put(to, first);
        put(to + kLanes, second);
#endif
    }

    static void pack_column(const float* weight, int depth, Packed* to, int stride) {
        for (int k = 0; k < depth; k += 2, to += stride) {
            *to = to_bfloat16(bits<std::uint32_t>(weight[k])) |
                  to_bfloat16(bits<std::uint32_t>(weight[k + 1])) << 16;
        }
    }
};

#else

/// Numbers are rounded to bfloat16 and held as float32, whose products of them are as exact:
/// without AVX-512 taking pairs apart costs more than they save.
struct Bfloat16 : Float32 {
    static constexpr bool kRough = true;

    static void put(Element* to, F32 value) {
        const U32 word = bits<U32>(value);
        store(to, (word + 0x7FFFu + ((word >> 16) & 1u)) & 0xFFFF0000u);
    }
    static void put(Element* to, F32 first, F32 second) {
        put(to, first);
        put(to + kLanes, second);
    }
    static void pack_column(const float* weight, int depth, Packed* to, int stride) {
        for (int k = 0; k < depth; ++k) {
            to[k * stride] = bits<float>(to_bfloat16(bits<std::uint32_t>(weight[k])) << 16);
        }
    }
};
#endif

/// The vectors of a row as elements, two at a time. vector(i): the one that begins at i.
template <class Operand, int Vectors, class Vector>
inline void put_row(typename Operand::Element* to, int columns, Vector vector) {
    if constexpr (Vectors == 2) {
        const F32 first = vector(0);
        Operand::put(to, first, vector(kLanes));
    } else {
        for (int i = 0; i < columns; i += kLanes) Operand::put(to + i, vector(i));
    }
}

}  // namespace dmpc::cpu::DMPC_TARGET
