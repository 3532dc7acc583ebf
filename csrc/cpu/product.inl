// Matrix products. A tile of kRowTile rows by two vectors of columns is summed in registers over
// the whole depth, parked in a small buffer that stays in L1, and finished by an epilogue.
//
// Packed weights: tiles of kTileColumns columns; inside a tile, depth step after depth step, one
// vector after the other. A last tile may hold a single vector, at the same stride.
namespace dmpc::cpu::DMPC_TARGET {

template <class Operand>
using TileFunction = void (*)(const typename Operand::Element* a, std::ptrdiff_t a_stride,
                              const typename Operand::Packed* b, std::ptrdiff_t b_stride, int steps,
                              float* out, std::ptrdiff_t out_stride);

/// out (Rows, Vectors x kLanes) = a (Rows, steps x kDepthStep) times b (steps rows of vectors), in
/// words of the type of the sums.
template <class Operand, int Rows, int Vectors>
void tile(const typename Operand::Element* a, std::ptrdiff_t a_stride,
          const typename Operand::Packed* b, std::ptrdiff_t b_stride, int steps, float* out,
          std::ptrdiff_t out_stride) {
    typename Operand::Sums sums[Rows][Vectors] = {};
    for (int k = 0; k < steps; ++k) {
        typename Operand::Weights w[Vectors];
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) w[v] = Operand::weights(b + v * kLanes);
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v) {
                sums[r][v] = Operand::dot(sums[r][v], a + r * a_stride, w[v]);
            }
        }
        a += Operand::kDepthStep;
        b += b_stride;
    }
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) store(out + r * out_stride + v * kLanes, sums[r][v]);
    }
}

/// Tiles by rows and vectors; constant, because a constructor would run on machines that lack the
/// instruction set.
template <class Operand>
struct Tiles {
    TileFunction<Operand> table[kRowTile + 1][kTileVectors + 1] = {};

    constexpr Tiles() { fill<kRowTile>(); }

private:
    template <int Rows>
    constexpr void fill() {
        table[Rows][1] = tile<Operand, Rows, 1>;
        table[Rows][2] = tile<Operand, Rows, 2>;
        if constexpr (Rows > 1) fill<Rows - 1>();
    }
};
template <class Operand>
constexpr Tiles<Operand> kTiles;

/// Calls body(first_row, count) for near-equal runs of at most kRowTile rows.
template <class Body>
inline void for_row_tiles(int rows, Body body) {
    int tiles = (rows + kRowTile - 1) / kRowTile;
    for (int row = 0; tiles > 0; --tiles) {
        const int count = (rows - row + tiles - 1) / tiles;
        body(row, count);
        row += count;
    }
}

/// How a tile of sums becomes part of c. `apply` gets one vector at (row, column).
struct StoreEpilogue {
    static void apply(const Product& p, int row, int column, F32 value) {
        store(static_cast<float*>(p.c) + row * p.c_stride + column, value);
    }
};

template <class Operand>
struct OperandEpilogue {
    static void apply(const Product& p, int row, int column, F32 value) {
        using Element = typename Operand::Element;
        Operand::put(static_cast<Element*>(p.c) + row * p.c_stride + column, value);
    }
};

template <class Operand>
struct GeluEpilogue {
    static void apply(const Product& p, int row, int column, F32 value) {
        using Element = typename Operand::Element;
        Operand::put(static_cast<Element*>(p.c) + row * p.c_stride + column,
                     gelu<Operand::kRough>(value));
    }
};

struct ResidualEpilogue {
    static void apply(const Product& p, int row, int column, F32 value) {
        float* c = static_cast<float*>(p.c) + row * p.c_stride + column;
        store(c, load(c) + load(p.gate + column) * value);
    }
};

struct TokensEpilogue {
    static void apply(const Product& p, int row, int column, F32 value) {
        const float* position = p.positions + row % p.tokens * p.positions_stride + column;
        store(static_cast<float*>(p.c) + row * p.c_stride + column, value + load(position));
    }
};

template <class Operand, class Epilogue>
void product(const Product& p) {
    using Packed = typename Operand::Packed;
    alignas(64) float sums[kRowTile * kTileColumns];
    const typename Operand::Source source(p);
    const int steps = p.depth / Operand::kDepthStep;
    const char* weights = static_cast<const char*>(p.weights);
    for (int column = 0; column < p.columns; column += kTileColumns) {
        const int vectors = minimum(kTileVectors, (p.columns - column) / kLanes);
        const auto* b = reinterpret_cast<const Packed*>(weights);
        for_row_tiles(p.rows, [&](int row, int count) {
            kTiles<Operand>.table[count][vectors](source.row(row), source.stride(), b, kTileColumns,
                                                  steps, sums, kTileColumns);
            for (int v = 0; v < vectors; ++v) {
                const int at = column + v * kLanes;
                const F32 bias = p.bias ? load(p.bias + at) : F32{};
                const typename Operand::Finish finish(b, p.depth, v);
                for (int r = 0; r < count; ++r) {
                    const float* from = sums + r * kTileColumns + v * kLanes;
                    Epilogue::apply(p, row + r, at, finish(from, source, row + r) + bias);
                }
            }
        });
        weights += p.weights_tile_stride;
    }
}

/// Bytes of one tile of columns: the weights, then what the operand adds per column.
template <class Operand>
std::ptrdiff_t tile_stride(int depth) {
    return static_cast<std::ptrdiff_t>(sizeof(typename Operand::Packed)) * kTileColumns *
           (depth / Operand::kDepthStep + Operand::kColumnWords);
}

template <class Operand>
std::ptrdiff_t depth_stride() {
    return static_cast<std::ptrdiff_t>(sizeof(typename Operand::Packed)) * kTileColumns /
           Operand::kDepthStep;
}

template <class Operand>
std::size_t packed_bytes(int depth, int columns) {
    return static_cast<std::size_t>(tile_stride<Operand>(depth)) *
           static_cast<std::size_t>((columns + kTileColumns - 1) / kTileColumns);
}

template <class Operand>
void pack(const float* weight, int depth, int columns, void* packed) {
    auto* to = static_cast<typename Operand::Packed*>(packed);
    const int steps = depth / Operand::kDepthStep;
    for (int first = 0; first < columns; first += kTileColumns) {
        for (int c = 0; c < minimum(kTileColumns, columns - first); ++c) {
            const float* from = weight + std::ptrdiff_t{first + c} * depth;
            Operand::pack_column(from, depth, to + c, kTileColumns);
        }
        to += std::ptrdiff_t{steps + Operand::kColumnWords} * kTileColumns;
    }
}

}  // namespace dmpc::cpu::DMPC_TARGET
