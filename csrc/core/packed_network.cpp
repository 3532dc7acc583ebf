#include "packed_network.hpp"

#include <cmath>
#include <numbers>

namespace dmpc {
namespace {

int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

/// Builds padded linear layers for one table of kernels.
class Packer {
public:
    Packer(const TensorLookup& tensor, const cpu::Kernels& kernels, cpu::Precision precision)
        : tensor_(tensor), kernels_(kernels), precision_(precision) {}

    int padded(int size) const { return round_up(size, kernels_.lanes); }
    const float* tensor(const std::string& name) const { return tensor_(name); }

    /// weight(column, input) and bias(column) give the padded matrix, 0 in its padding.
    template <class Weight, class Bias>
    PackedLinear linear(int columns, int depth, Weight weight, Bias bias,
                        cpu::Precision precision = cpu::Precision::float32) const {
        std::vector<float> dense(static_cast<std::size_t>(columns) * depth);
        PackedLinear result;
        result.precision = precision;
        result.depth = depth;
        result.columns = columns;
        result.bias.assign(columns);
        for (int c = 0; c < columns; ++c) {
            result.bias[c] = bias(c);
            for (int k = 0; k < depth; ++k) {
                dense[static_cast<std::size_t>(c) * depth + k] = weight(c, k);
            }
        }
        const cpu::OperandKernels& operand = kernels_.of(precision);
        result.weights.assign(operand.packed_bytes(depth, columns));
        result.tile_stride = operand.tile_stride(depth);
        operand.pack(dense.data(), depth, columns, result.weights.data());
        return result;
    }

    /// A layer that is padded at its ends only. `bias_name` may be empty.
    PackedLinear plain(const std::string& name, int outputs, int inputs, cpu::Precision precision,
                       bool has_bias = true) const {
        const float* weight = tensor_(name + ".weight");
        const float* bias = has_bias ? tensor_(name + ".bias") : nullptr;
        return linear(
            padded(outputs), padded(inputs),
            [=](int c, int k) {
                return c < outputs && k < inputs ? weight[std::ptrdiff_t{c} * inputs + k] : 0.0f;
            },
            [=](int c) { return bias && c < outputs ? bias[c] : 0.0f; }, precision);
    }

    /// `count` vectors of `width` from one layer, each padded; bit i of `plus_one` adds 1 to vector
    /// i.
    PackedLinear modulation(const std::string& name, int count, int width,
                            unsigned plus_one) const {
        const float* weight = tensor_(name + ".weight");
        const float* bias = tensor_(name + ".bias");
        const int wide = padded(width);
        return linear(
            count * wide, wide,
            [=](int c, int k) {
                const int part = c / wide, i = c % wide;
                const std::ptrdiff_t row = std::ptrdiff_t{part} * width + i;
                return i < width && k < width ? weight[row * width + k] : 0.0f;
            },
            [=](int c) {
                const int part = c / wide, i = c % wide;
                if (i >= width) return 0.0f;
                return bias[part * width + i] + (plus_one >> part & 1u ? 1.0f : 0.0f);
            });
    }

    PackedLinear qkv(const std::string& name, const NetworkSizes& sizes) const {
        const float* weight = tensor_(name + ".weight");
        const float* bias = tensor_(name + ".bias");
        const int width = sizes.width, size = sizes.head_size, wide = padded(size);
        const int inner = sizes.heads * size;
        // The softmax scale, in powers of two as `attention` takes them.
        const float scale = std::numbers::log2e_v<float> / std::sqrt(static_cast<float>(size));
        const auto source = [=](int c) {  // row of the stored matrix, -1 for padding
            const int head = c / (3 * wide), part = c / wide % 3, i = c % wide;
            return i < size ? part * inner + head * size + i : -1;
        };
        const auto factor = [=](int c) { return c / wide % 3 == 0 ? scale : 1.0f; };
        return linear(
            sizes.heads * 3 * wide, padded(width),
            [=](int c, int k) {
                const int row = source(c);
                if (row < 0 || k >= width) return 0.0f;
                return weight[std::ptrdiff_t{row} * width + k] * factor(c);
            },
            [=](int c) { return source(c) < 0 ? 0.0f : bias[source(c)] * factor(c); }, precision_);
    }

    PackedLinear projection(const std::string& name, const NetworkSizes& sizes) const {
        const float* weight = tensor_(name + ".weight");
        const float* bias = tensor_(name + ".bias");
        const int width = sizes.width, size = sizes.head_size, wide = padded(size);
        const std::ptrdiff_t inner = std::ptrdiff_t{sizes.heads} * size;
        return linear(
            padded(width), sizes.heads * wide,
            [=](int c, int k) {
                const int head = k / wide, i = k % wide;
                return c < width && i < size ? weight[c * inner + head * size + i] : 0.0f;
            },
            [=](int c) { return c < width ? bias[c] : 0.0f; }, precision_);
    }

    /// Of a trajectory that is one token: attention gives it its own value, so value and projection
    /// are one layer.
    PackedLinear own_value(const std::string& name, const NetworkSizes& sizes) const {
        const int width = sizes.width, inner = sizes.heads * sizes.head_size;
        const float* value = tensor_(name + "qkv.weight") + std::ptrdiff_t{2} * inner * width;
        const float* value_bias = tensor_(name + "qkv.bias") + std::ptrdiff_t{2} * inner;
        const float* project = tensor_(name + "projection.weight");
        const float* project_bias = tensor_(name + "projection.bias");
        // Of each output: weights, then the bias.
        std::vector<double> joined(static_cast<std::size_t>(width) * (width + 1));
        for (std::ptrdiff_t c = 0; c < width; ++c) {
            double* row = joined.data() + c * (width + 1);
            row[width] = project_bias[c];
            for (std::ptrdiff_t j = 0; j < inner; ++j) {
                const double weight = project[c * inner + j];
                for (int k = 0; k < width; ++k) row[k] += weight * value[j * width + k];
                row[width] += weight * value_bias[j];
            }
        }
        const auto entry = [&](int c, int k) {
            return static_cast<float>(joined[static_cast<std::size_t>(c) * (width + 1) + k]);
        };
        return linear(
            padded(width), padded(width),
            [&](int c, int k) { return c < width && k < width ? entry(c, k) : 0.0f; },
            [&](int c) { return c < width ? entry(c, width) : 0.0f; }, precision_);
    }

    PackedLinear angles(int width) const {
        const float* angle = tensor_("condition.angle.weight");
        const float* target = tensor_("condition.target.weight");
        const int half = kAngleFeatures / 2;
        return linear(
            padded(width), kAngleFeatures,
            [=](int c, int k) {
                if (c >= width) return 0.0f;
                return k < half ? angle[c * half + k] : target[c * half + k - half];
            },
            [](int) { return 0.0f; });
    }

    PackedBlock block(int index, const NetworkSizes& sizes) const {
        const std::string name = std::string("blocks.").append(std::to_string(index)).append(".");
        const unsigned scales = 1u << kScaleAttention | 1u << kScaleMlp;
        const bool alone = sizes.tokens() == 1;
        return {modulation(name + "modulation", kBlockModulations, sizes.width, scales),
                alone ? PackedLinear{} : qkv(name + "qkv", sizes),
                alone ? own_value(name, sizes) : projection(name + "projection", sizes),
                plain(name + "mlp_in", sizes.mlp, sizes.width, precision_),
                plain(name + "mlp_out", sizes.width, sizes.mlp, precision_)};
    }

private:
    const TensorLookup& tensor_;
    const cpu::Kernels& kernels_;
    cpu::Precision precision_;
};

}  // namespace

PackedLinear pack_linear(const std::string& name, int outputs, int inputs,
                         const TensorLookup& tensor, const cpu::Kernels& kernels) {
    const Packer packer(tensor, kernels, cpu::Precision::float32);
    return packer.plain(name, outputs, inputs, cpu::Precision::float32);
}

cpu::Product PackedLinear::product() const {
    cpu::Product p;
    p.depth = depth;
    p.columns = columns;
    p.weights = weights.data();
    p.weights_tile_stride = tile_stride;
    p.bias = bias.data();
    return p;
}

PackedNetwork::PackedNetwork(const NetworkSizes& network, const TensorLookup& tensor,
                             const cpu::Kernels& kernels, cpu::Precision precision)
    : sizes(network) {
    const Packer packer(tensor, kernels, precision);
    constexpr auto float32 = cpu::Precision::float32;
    width = packer.padded(sizes.width);
    head_size = packer.padded(sizes.head_size);
    inner = sizes.heads * head_size;
    mlp = packer.padded(sizes.mlp);

    token = packer.plain("token", sizes.width, sizes.features(), float32);
    const float* table = tensor("positions");
    positions.assign(static_cast<std::size_t>(sizes.tokens()) * width);
    for (int t = 0; t < sizes.tokens(); ++t) {
        for (int i = 0; i < sizes.width; ++i) {
            positions[static_cast<std::size_t>(t) * width + i] = table[t * sizes.width + i];
        }
    }
    if (sizes.history_tokens) {
        history_tokens = packer.plain("history", sizes.width, sizes.condition, float32, false);
    }
    condition_history = packer.plain("condition.history", sizes.width, sizes.condition, float32);
    if (sizes.has_angles()) angles = packer.angles(sizes.width);
    condition_out = packer.plain("condition.out", sizes.width, sizes.width, float32);
    blocks.reserve(sizes.layers);
    for (int i = 0; i < sizes.layers; ++i) blocks.push_back(packer.block(i, sizes));
    final_modulation =
        packer.modulation("final.modulation", kFinalModulations, sizes.width, 1u << kScaleFinal);
    final_out = packer.plain("final.out", sizes.patch * sizes.outputs, sizes.width, float32);
}

}  // namespace dmpc
