// Fills the table of one instruction set. Included last by each target's source.
namespace dmpc::cpu::DMPC_TARGET {

inline std::size_t no_scratch(int, int) { return 0; }

template <class Operand>
std::size_t plain_bytes(int rows, int depth) {
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(depth) *
           sizeof(typename Operand::Element);
}

template <class Operand>
constexpr OperandKernels operand_kernels() {
    using Source = PlainSource<typename Operand::Element>;
    return {
        .element_bytes = static_cast<int>(sizeof(typename Operand::Element)),
        .packed_bytes = packed_bytes<Operand>,
        .tile_stride = tile_stride<Operand>,
        .normed_bytes = plain_bytes<Operand>,
        .residual_scratch = no_scratch,
        .splits_depth = true,
        .depth_stride = depth_stride<Operand>,
        .pack = pack<Operand>,
        .product_store = product<Operand, Source, StoreEpilogue>,
        .product_operand = product<Operand, Source, OperandEpilogue<Operand>>,
        .product_gelu = product<Operand, Source, GeluEpilogue<Operand>>,
        .product_residual = product<Operand, Source, ResidualEpilogue<Operand>>,
        .product_tokens = product<Operand, Source, TokensEpilogue>,
        .norm = norm<NormTo<Operand>>,
        .attention = attention<Operand>,
    };
}

/// Bytes are what a norm leaves and what a product multiplies; all else stays bfloat16.
constexpr OperandKernels int8_kernels() {
    OperandKernels kernels = operand_kernels<Bfloat16>();
    kernels.packed_bytes = packed_bytes<Int8>;
    kernels.tile_stride = tile_stride<Int8>;
    kernels.normed_bytes = normed_bytes;
    kernels.residual_scratch = quantised_bytes;
    kernels.splits_depth = false;
    kernels.depth_stride = depth_stride<Int8>;
    kernels.pack = pack<Int8>;
    kernels.product_store = product<Int8, QuantisedSource, StoreEpilogue>;
    kernels.product_operand = product<Int8, QuantisedSource, OperandEpilogue<Bfloat16>>;
    kernels.product_gelu = product<Int8, QuantisedSource, GeluEpilogue<Bfloat16>>;
    kernels.product_residual = product<Int8, QuantisingSource, ResidualEpilogue<Int8>>;
    kernels.product_tokens = product<Int8, QuantisedSource, TokensEpilogue>;
    kernels.norm = norm<NormToBytes>;
    return kernels;
}

const Kernels* table() {
    static constexpr Kernels kernels{
        .instruction_set = InstructionSet::DMPC_TARGET,
        .name = DMPC_TARGET_NAME,
        .lanes = kLanes,
        .operand = {operand_kernels<Float32>(), operand_kernels<Bfloat16>(), int8_kernels()},
        .attention_scratch = attention_scratch,
        .normals = normals,
        .update = update,
        .silu = silu_array,
    };
    return &kernels;
}

}  // namespace dmpc::cpu::DMPC_TARGET
