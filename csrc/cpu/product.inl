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
    TileFunction<Operand> table[kTallTile + 1][kTileVectors + 1] = {};

    constexpr Tiles() { fill<kTallTile>(); }

private:
    template <int Rows>
    constexpr void fill() {
        table[Rows][1] = tile<Operand, Rows, 1>;
        if constexpr (Rows <= kRowTile) table[Rows][2] = tile<Operand, Rows, 2>;
        if constexpr (Rows > 1) fill<Rows - 1>();
    }
};
template <class Operand>
constexpr Tiles<Operand> kTiles;

/// Calls body(first_row, count) for near-equal runs of at most kRowTile rows.
template <class Body>
inline void for_row_tiles(int rows, Body body) {
    const int tiles = (rows + kRowTile - 1) / kRowTile;
    const int size = rows / tiles, larger = rows % tiles;
    for (int tile = 0, row = 0; tile < tiles; ++tile) {
        const int count = size + (tile < larger ? 1 : 0);
        body(row, count);
        row += count;
    }
}

// How a tile of sums becomes part of c. An epilogue serves one tile of columns, whose rows it sees
// in order; it gets all vectors of a row at once.

struct StoreEpilogue {
    StoreEpilogue(const Product&, int, int) {}
    template <int Vectors>
    void put(const Product& p, int row, int column, const F32 (&values)[Vectors]) const {
        float* c = static_cast<float*>(p.c) + row * p.c_stride + column;
        for (int v = 0; v < Vectors; ++v) store(c + v * kLanes, values[v]);
    }
};

/// One or two neighbouring vectors as elements.
template <class Operand>
inline void put_all(typename Operand::Element* to, const F32 (&values)[1]) {
    Operand::put(to, values[0]);
}
template <class Operand>
inline void put_all(typename Operand::Element* to, const F32 (&values)[2]) {
    Operand::put(to, values[0], values[1]);
}

template <class Operand>
struct OperandEpilogue {
    OperandEpilogue(const Product&, int, int) {}
    template <int Vectors>
    void put(const Product& p, int row, int column, const F32 (&values)[Vectors]) const {
        using Element = typename Operand::Element;
        put_all<Operand>(static_cast<Element*>(p.c) + row * p.c_stride + column, values);
    }
};

template <class Operand>
struct GeluEpilogue {
    GeluEpilogue(const Product&, int, int) {}
    template <int Vectors>
    void put(const Product& p, int row, int column, const F32 (&values)[Vectors]) const {
        using Element = typename Operand::Element;
        F32 bent[Vectors];
        for (int v = 0; v < Vectors; ++v) bent[v] = gelu<Operand::kRough>(values[v]);
        put_all<Operand>(static_cast<Element*>(p.c) + row * p.c_stride + column, bent);
    }
};

template <class Operand>
struct ResidualEpilogue {
    ResidualEpilogue(const Product& p, int column, int vectors) {
        for (int v = 0; v < vectors; ++v) gate[v] = load(p.gate + column + v * kLanes);
    }
    void adapt(typename Operand::Finish& finish, int v) const { finish.gated_by(gate[v]); }
    template <int Vectors>
    void put(const Product& p, int row, int column, const F32 (&values)[Vectors]) const {
        float* c = static_cast<float*>(p.c) + row * p.c_stride + column;
        for (int v = 0; v < Vectors; ++v, c += kLanes) {
            store(c, Operand::Finish::joined(load(c), gate[v], values[v]));
        }
    }
    F32 gate[kTileVectors];
};

struct TokensEpilogue {
    TokensEpilogue(const Product&, int, int) {}
    template <int Vectors>
    void put(const Product& p, int row, int column, const F32 (&values)[Vectors]) {
        const float* position = p.positions + token * p.positions_stride + column;
        float* c = static_cast<float*>(p.c) + row * p.c_stride + column;
        for (int v = 0; v < Vectors; ++v) {
            store(c + v * kLanes, values[v] + load(position + v * kLanes));
        }
        token = token + 1 == p.tokens ? 0 : token + 1;
    }
    int token = 0;
};

/// Brings the next tile of weights nearer, a share with each tile of rows of this one.
class Prefetch {
public:
    Prefetch(const char* from, std::ptrdiff_t bytes, int rows)
        : from_(from), share_(from ? bytes / ((rows + kRowTile - 1) / kRowTile) + kLine : 0) {}
    void share() {
        for (std::ptrdiff_t at = 0; at < share_; at += kLine) __builtin_prefetch(from_ + at, 0, 2);
        from_ += share_;
    }

private:
    static constexpr std::ptrdiff_t kLine = 64;
    const char* from_;
    std::ptrdiff_t share_;
};

/// The epilogue of one tile of columns and what finishes the sums of its vectors.
template <class Operand, int Vectors, class Epilogue>
struct Ending {
    Ending(const Product& p, int column, const typename Operand::Packed* b)
        : epilogue(p, column, Vectors) {
        for (int v = 0; v < Vectors; ++v) {
            finish[v] = typename Operand::Finish(b, p.depth, v);
            finish[v].bias = p.bias ? load(p.bias + column + v * kLanes) : F32{};
            if constexpr (requires { epilogue.adapt(finish[v], v); }) epilogue.adapt(finish[v], v);
        }
    }
    template <class Source>
    void put(const Product& p, const Source& source, int row, int column, const float* sums) {
        F32 values[Vectors];
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) values[v] = finish[v](sums + v * kLanes, source, row);
        epilogue.put(p, row, column, values);
    }
    Epilogue epilogue;
    typename Operand::Finish finish[Vectors];
};

/// All rows of one tile of columns. `p` is a copy, which no store can change.
template <class Operand, int Vectors, class Epilogue, class Source>
inline void product_columns(const Product p, const Source source, int column,
                            const typename Operand::Packed* b) {
    alignas(64) float sums[kRowTile * kTileColumns];
    const int steps = p.depth / Operand::kDepthStep;
    Ending<Operand, Vectors, Epilogue> ending(p, column, b);
    const bool more = column + kTileColumns < p.columns;
    Prefetch next(
        p.far && more ? reinterpret_cast<const char*>(b) + p.weights_tile_stride : nullptr,
        p.weights_tile_stride, p.rows);
    for_row_tiles(p.rows, [&](int row, int count) {
        next.share();
        kTiles<Operand>.table[count][Vectors](source.row(row), source.stride(), b, kTileColumns,
                                              steps, sums, kTileColumns);
#pragma GCC unroll 2
        for (int r = 0; r < count; ++r) {
            ending.put(p, source, row + r, column, sums + r * kTileColumns);
        }
    });
}

/// Tiles of columns that a single row is multiplied with at a time: the sums of one tile alone
/// would spend most of their time waiting for each other.
constexpr int kTilesOfARow = 4;

/// A row times as many tiles of columns as there are whole groups of them; the first column that is
/// left. The order of each column's sum is `tile`'s.
template <class Operand, class Epilogue, class Source>
int row_of_tiles(const Product p, const Source source) {
    alignas(64) float out[kTilesOfARow * kTileColumns];
    const int steps = p.depth / Operand::kDepthStep;
    constexpr int columns = kTilesOfARow * kTileColumns;
    const std::ptrdiff_t stride = p.weights_tile_stride / sizeof(typename Operand::Packed);
    const auto* first = static_cast<const typename Operand::Packed*>(p.weights);
    int column = 0;
    for (; column + columns <= p.columns; column += columns, first += kTilesOfARow * stride) {
        typename Operand::Sums sums[kTilesOfARow][kTileVectors] = {};
        const auto* a = source.row(0);
        const auto* b = first;
        for (int k = 0; k < steps; ++k, a += Operand::kDepthStep, b += kTileColumns) {
#pragma GCC unroll 4
            for (int t = 0; t < kTilesOfARow; ++t) {
#pragma GCC unroll 2
                for (int v = 0; v < kTileVectors; ++v) {
                    const auto weights = Operand::weights(b + t * stride + v * kLanes);
                    sums[t][v] = Operand::dot(sums[t][v], a, weights);
                }
            }
        }
        for (int t = 0; t < kTilesOfARow; ++t) {
            for (int v = 0; v < kTileVectors; ++v) {
                store(out + t * kTileColumns + v * kLanes, sums[t][v]);
            }
        }
        for (int t = 0; t < kTilesOfARow; ++t) {
            const int at = column + t * kTileColumns;
            Ending<Operand, kTileVectors, Epilogue> ending(p, at, first + t * stride);
            ending.put(p, source, 0, at, out + t * kTileColumns);
        }
    }
    return column;
}

/// Source: how the rows of `a` become what Operand multiplies.
template <class Operand, class Source, class Epilogue>
void product(const Product& p) {
    const Source source(p);
    int column = 0;
    if constexpr (Operand::kColumnWords == 0) {
        if (p.rows == 1) column = row_of_tiles<Operand, Epilogue>(p, source);
    }
    const char* weights =
        static_cast<const char*>(p.weights) + column / kTileColumns * p.weights_tile_stride;
    for (; column < p.columns; column += kTileColumns) {
        const auto* b = reinterpret_cast<const typename Operand::Packed*>(weights);
        if (p.columns - column >= kTileColumns) {
            product_columns<Operand, kTileVectors, Epilogue>(p, source, column, b);
        } else {
            product_columns<Operand, 1, Epilogue>(p, source, column, b);
        }
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
