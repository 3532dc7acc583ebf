#include "forward.hpp"

#include <algorithm>

namespace dmpc {
namespace {

// Wide layers are cut so that what passes between two products stays within this share of an L2
// cache of 1 MiB, whose rest holds the weights that stream through.
constexpr std::size_t kBetweenBytes = 256 * 1024;
// A layer of so many bytes pushes itself out of L2 from one chunk of candidates to the next.
constexpr std::size_t kFarBytes = 256 * 1024;

/// How a wide layer is cut into passes over its columns, `unit` at a time: whole tiles of weights.
struct Cut {
    int columns;  // of the layer
    int unit;
    int element_bytes;

    int per_pass(int rows) const {
        const auto unit_bytes = static_cast<std::size_t>(unit) * rows * element_bytes;
        const int units = (columns + unit - 1) / unit;
        const int most = static_cast<int>(std::max<std::size_t>(1, kBetweenBytes / unit_bytes));
        const int passes = (units + most - 1) / most;
        return (units + passes - 1) / passes * unit;
    }

    /// Bytes that suffice for a pass of `rows` or fewer.
    std::size_t bytes(std::size_t rows) const {
        const std::size_t all = static_cast<std::size_t>(columns) * element_bytes * rows;
        return std::min(all, std::max(kBetweenBytes, std::size_t(unit) * element_bytes * rows));
    }
};

/// Passes hold whole heads, and two of them where one does not fill whole tiles.
Cut cut_heads(const PackedNetwork& n, int lanes, int element_bytes) {
    const int head = 3 * n.head_size;
    const int unit = head % (2 * lanes) == 0 ? head : 2 * head;
    return {n.sizes.heads * head, unit, element_bytes};
}

Cut cut_hidden(const PackedNetwork& n, int lanes, const cpu::OperandKernels& operand) {
    const int unit = operand.splits_depth ? 2 * lanes : n.mlp;
    return {n.mlp, unit, operand.element_bytes};
}

template <class T>
void grow(AlignedBuffer<T>& buffer, std::size_t size) {
    if (buffer.size() < size) buffer.assign(size);
}

/// A product over columns [first, first + count) of the layer; `first` is a multiple of a tile.
cpu::Product columns(const PackedLinear& layer, int first, int count, int tile_columns) {
    cpu::Product p = layer.product();
    p.columns = count;
    p.weights = layer.weights.data() + first / tile_columns * layer.tile_stride;
    p.bias = layer.bias.data() + first;
    p.far = layer.weights.size() >= kFarBytes;
    return p;
}

}  // namespace

void Activations::reserve(const PackedNetwork& n, int candidates, const cpu::Kernels& kernels) {
    const auto rows = static_cast<std::size_t>(candidates) * n.sizes.tokens();
    const cpu::OperandKernels& operand = kernels.of(n.blocks.front().mlp_in.precision);
    const auto floats = [](std::size_t bytes) { return bytes / sizeof(float) + 1; };
    grow(features_, rows * n.token.depth);
    grow(outputs_, rows * n.final_out.columns);
    grow(residual_, rows * n.width);
    // The last norm leaves float32 whatever the others do.
    grow(normed_,
         std::max(rows * n.width, floats(operand.normed_bytes(static_cast<int>(rows), n.width))));
    if (n.sizes.tokens() > 1) {
        grow(qkv_, floats(cut_heads(n, kernels.lanes, operand.element_bytes).bytes(rows)));
        grow(attended_, rows * n.inner);
        grow(scratch_, kernels.attention_scratch(n.sizes.tokens(), n.head_size));
    }
    grow(hidden_, floats(cut_hidden(n, kernels.lanes, operand).bytes(rows)));
    const int deepest = std::max({n.inner, n.mlp, n.width});
    grow(quantised_, floats(operand.residual_scratch(static_cast<int>(rows), deepest)));
}

namespace {

/// What the phases of one evaluation share.
struct Pass {
    const PackedNetwork& network;
    const cpu::Kernels& kernels;
    int rows;
    int candidates;
    float* residual;
    void* quantised;

    cpu::Norm norm(const float* shift, const float* scale, void* out) const {
        return {.rows = rows,
                .width = network.sizes.width,
                .padded = network.width,
                .x = residual,
                .x_stride = network.width,
                .scale = scale,
                .shift = shift,
                .out = out,
                .out_stride = network.width};
    }

    cpu::Product to_residual(cpu::Product p, const void* a, std::ptrdiff_t a_stride,
                             const float* gate) const {
        p.rows = rows;
        p.a = a;
        p.a_stride = a_stride;
        p.c = residual;
        p.c_stride = network.width;
        p.gate = gate;
        p.scratch = quantised;
        return p;
    }
};

void attention_half(const Pass& pass, const PackedBlock& block, const float* modulation,
                    void* normed, void* qkv, void* attended, float* scratch) {
    const PackedNetwork& n = pass.network;
    const cpu::OperandKernels& operand = pass.kernels.of(block.qkv.precision);
    operand.norm(pass.norm(modulation + kShiftAttention * n.width,
                           modulation + kScaleAttention * n.width, normed));
    const int head = 3 * n.head_size;
    const int step = cut_heads(n, pass.kernels.lanes, operand.element_bytes).per_pass(pass.rows);
    for (int first = 0; first < block.qkv.columns; first += step) {
        const int count = std::min(step, block.qkv.columns - first);
        cpu::Product p = columns(block.qkv, first, count, 2 * pass.kernels.lanes);
        p.rows = pass.rows;
        p.a = normed;
        p.a_stride = n.width;
        p.c = qkv;
        p.c_stride = count;
        operand.product_operand(p);
        operand.attention({.candidates = pass.candidates,
                           .tokens = n.sizes.tokens(),
                           .heads = count / head,
                           .head_size = n.head_size,
                           .qkv = qkv,
                           .qkv_stride = count,
                           .out = static_cast<std::byte*>(attended) +
                                  std::ptrdiff_t{first / 3} * operand.element_bytes,
                           .out_stride = n.inner,
                           .scratch = scratch});
    }
    operand.product_residual(pass.to_residual(block.projection.product(), attended, n.inner,
                                              modulation + kGateAttention * n.width));
}

/// Attention of a single token to itself.
void own_value_half(const Pass& pass, const PackedBlock& block, const float* modulation,
                    void* normed) {
    const PackedNetwork& n = pass.network;
    const cpu::Precision precision = block.projection.precision;
    // The product of the residual makes its own bytes.
    const cpu::OperandKernels& plain =
        pass.kernels.of(precision == cpu::Precision::int8 ? cpu::Precision::bfloat16 : precision);
    plain.norm(pass.norm(modulation + kShiftAttention * n.width,
                         modulation + kScaleAttention * n.width, normed));
    pass.kernels.of(precision).product_residual(pass.to_residual(
        block.projection.product(), normed, n.width, modulation + kGateAttention * n.width));
}

void mlp_half(const Pass& pass, const PackedBlock& block, const float* modulation, void* normed,
              void* hidden) {
    const PackedNetwork& n = pass.network;
    const cpu::OperandKernels& operand = pass.kernels.of(block.mlp_in.precision);
    operand.norm(
        pass.norm(modulation + kShiftMlp * n.width, modulation + kScaleMlp * n.width, normed));
    const int step = cut_hidden(n, pass.kernels.lanes, operand).per_pass(pass.rows);
    for (int first = 0; first < n.mlp; first += step) {
        const int count = std::min(step, n.mlp - first);
        cpu::Product in = columns(block.mlp_in, first, count, 2 * pass.kernels.lanes);
        in.rows = pass.rows;
        in.a = normed;
        in.a_stride = n.width;
        in.c = hidden;
        in.c_stride = count;
        operand.product_gelu(in);

        cpu::Product out = block.mlp_out.product();
        out.depth = count;
        out.weights = block.mlp_out.weights.data() + first * operand.depth_stride();
        if (first > 0) out.bias = nullptr;
        operand.product_residual(
            pass.to_residual(out, hidden, count, modulation + kGateMlp * n.width));
    }
}

}  // namespace

void forward(const PackedNetwork& n, const cpu::Kernels& kernels, const float* modulation,
             const float* token_bias, int candidates, Activations& a) noexcept {
    const cpu::OperandKernels& exact = kernels.of(cpu::Precision::float32);
    const Pass pass{n,
                    kernels,
                    candidates * n.sizes.tokens(),
                    candidates,
                    a.residual_.data(),
                    a.quantised_.data()};

    cpu::Product tokens = n.token.product();
    tokens.rows = pass.rows;
    tokens.a = a.features_.data();
    tokens.a_stride = n.token.depth;
    tokens.bias = token_bias;
    tokens.c = pass.residual;
    tokens.c_stride = n.width;
    tokens.positions = n.positions.data();
    tokens.positions_stride = n.width;
    tokens.tokens = n.sizes.tokens();
    exact.product_tokens(tokens);

    for (const PackedBlock& block : n.blocks) {
        if (n.sizes.tokens() == 1) {
            own_value_half(pass, block, modulation, a.normed_.data());
        } else {
            attention_half(pass, block, modulation, a.normed_.data(), a.qkv_.data(),
                           a.attended_.data(), a.scratch_.data());
        }
        mlp_half(pass, block, modulation, a.normed_.data(), a.hidden_.data());
        modulation += kBlockModulations * n.width;
    }

    exact.norm(pass.norm(modulation + kShiftFinal * n.width, modulation + kScaleFinal * n.width,
                         a.normed_.data()));
    cpu::Product out = n.final_out.product();
    out.rows = pass.rows;
    out.a = a.normed_.data();
    out.a_stride = n.width;
    out.c = a.outputs_.data();
    out.c_stride = n.final_out.columns;
    exact.product_store(out);
}

}  // namespace dmpc
