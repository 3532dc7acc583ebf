// Fills the table of one instruction set. Included last by each target's source.
namespace dmpc::cpu::DMPC_TARGET {

template <class Operand>
constexpr OperandKernels operand_kernels() {
    return {
        .element_bytes = static_cast<int>(sizeof(typename Operand::Element)),
        .packed_bytes = packed_bytes<Operand>,
        .tile_stride = tile_stride<Operand>,
        .depth_stride = depth_stride<Operand>,
        .pack = pack<Operand>,
        .product_store = product<Operand, StoreEpilogue>,
        .product_operand = product<Operand, OperandEpilogue<Operand>>,
        .product_gelu = product<Operand, GeluEpilogue<Operand>>,
        .product_residual = product<Operand, ResidualEpilogue>,
        .product_tokens = product<Operand, TokensEpilogue>,
        .norm = norm<Operand>,
        .attention = attention<Operand>,
    };
}

const Kernels* table() {
    static constexpr Kernels kernels{
        .instruction_set = InstructionSet::DMPC_TARGET,
        .name = DMPC_TARGET_NAME,
        .lanes = kLanes,
        .operand = {operand_kernels<Float32>(), operand_kernels<Bfloat16>()},
        .attention_scratch = attention_scratch,
        .normals = normals,
        .update = update,
        .silu = silu_array,
        .sigmoid = sigmoid_array,
    };
    return &kernels;
}

}  // namespace dmpc::cpu::DMPC_TARGET
