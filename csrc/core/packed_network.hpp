// The weights of one network, packed once at load in the layout that the kernels read.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "aligned_buffer.hpp"
#include "cpu/kernels.hpp"

namespace dmpc {

/// Sizes of one trajectory transformer; see the network in docs/architecture.md.
struct NetworkSizes {
    int layers, width, heads, head_size, mlp, patch;
    int horizon, condition;
    int noisy, clean, outputs;  // features per time step
    bool history_tokens;

    int tokens() const { return horizon / patch; }
    int features() const { return patch * (noisy + clean); }
    bool has_angles() const { return noisy > 0; }
};

/// Tensor by its name within the network, float32, of the shape that the specification states.
using TensorLookup = std::function<const float*(const std::string& name)>;

/// One linear layer: packed weights and padded bias. `depth` and `columns` are padded.
struct PackedLinear {
    cpu::Precision precision = cpu::Precision::float32;
    int depth = 0;
    int columns = 0;
    std::ptrdiff_t tile_stride = 0;
    AlignedBuffer<std::byte> weights;
    AlignedBuffer<float> bias;

    /// The product with these weights and bias, its rows, input and output still to be set.
    cpu::Product product() const;
};

/// The layer `name`.weight (outputs, inputs) and `name`.bias in float32. Throws std::bad_alloc.
PackedLinear pack_linear(const std::string& name, int outputs, int inputs,
                         const TensorLookup& tensor, const cpu::Kernels& kernels);

struct PackedBlock {
    PackedLinear modulation;  // six vectors: shift, 1 + scale, gate of attention, then of the MLP
    PackedLinear qkv;  // head after head: [q | k | v], the softmax scale folded into q; empty for a
                       // single token
    PackedLinear projection;  // of a single token: of its own value
    PackedLinear mlp_in;
    PackedLinear mlp_out;
};

/// Modulation vectors of a block or of the end, in the order of the packed columns.
enum Modulation {
    kShiftAttention,
    kScaleAttention,
    kGateAttention,
    kShiftMlp,
    kScaleMlp,
    kGateMlp
};
enum FinalModulation { kShiftFinal, kScaleFinal };
inline constexpr int kBlockModulations = 6;
inline constexpr int kFinalModulations = 2;

/// Fourier features of t, then of s: inputs of `PackedNetwork::angles`.
inline constexpr int kAngleFeatures = 64;

struct PackedNetwork {
    /// Throws std::bad_alloc. `precision` is that of the blocks' products; the rest stays float32.
    PackedNetwork(const NetworkSizes& sizes, const TensorLookup& tensor,
                  const cpu::Kernels& kernels, cpu::Precision precision);

    NetworkSizes sizes;
    int width, head_size, inner, mlp;  // padded; inner = heads x head_size

    PackedLinear token;
    AlignedBuffer<float> positions;  // (tokens, width)
    PackedLinear history_tokens;     // without bias; empty unless sizes.history_tokens
    PackedLinear condition_history;
    PackedLinear angles;  // [condition.angle | condition.target], without bias
    PackedLinear condition_out;
    std::vector<PackedBlock> blocks;
    PackedLinear final_modulation;
    PackedLinear final_out;

    /// Floats of all modulation vectors of one noise angle: blocks in order, then the end.
    int modulation_size() const {
        return (kBlockModulations * sizes.layers + kFinalModulations) * width;
    }
};

}  // namespace dmpc
