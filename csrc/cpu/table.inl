// Fills the table of one instruction set. Included last by each target's source.
namespace dmpc::cpu::DMPC_TARGET {

inline std::size_t no_scratch(int, int) { return 0; }

/// Activation: the type that stands between products. Operand: what a product multiplies.
template <class Activation, class Operand>
constexpr OperandKernels operand_kernels() {
    constexpr bool quantises = Operand::kColumnWords > 0;
    return {
        .element_bytes = static_cast<int>(sizeof(typename Activation::Element)),
        .packed_bytes = packed_bytes<Operand>,
        .tile_stride = tile_stride<Operand>,
        .product_scratch = quantises ? quantised_bytes : no_scratch,
        .splits_depth = !quantises,
        .depth_stride = depth_stride<Operand>,
        .pack = pack<Operand>,
        .product_store = product<Operand, StoreEpilogue>,
        .product_operand = product<Operand, OperandEpilogue<Activation>>,
        .product_gelu = product<Operand, GeluEpilogue<Activation>>,
        .product_residual = product<Operand, ResidualEpilogue>,
        .product_tokens = product<Operand, TokensEpilogue>,
        .norm = norm<Activation>,
        .attention = attention<Activation>,
    };
}

const Kernels* table() {
    static constexpr Kernels kernels{
        .instruction_set = InstructionSet::DMPC_TARGET,
        .name = DMPC_TARGET_NAME,
        .lanes = kLanes,
        .operand = {operand_kernels<Float32, Float32>(), operand_kernels<Bfloat16, Bfloat16>(),
                    operand_kernels<Bfloat16, Int8>()},
        .attention_scratch = attention_scratch,
        .normals = normals,
        .update = update,
        .silu = silu_array,
        .sigmoid = sigmoid_array,
    };
    return &kernels;
}

}  // namespace dmpc::cpu::DMPC_TARGET
