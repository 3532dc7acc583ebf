#include "policy.hpp"

#include <utility>

namespace dmpc {

Policy::Policy(const ModelSpec& spec, const TensorLookup& tensor, const cpu::Kernels& kernels)
    : kernels_(&kernels) {
    int inputs = static_cast<int>(spec.condition_size());
    for (int i = 0; i < spec.policy->layers; ++i) {
        const std::string name = "hidden." + std::to_string(i);
        hidden_.push_back(pack_linear(name, spec.policy->width, inputs, tensor, kernels));
        inputs = spec.policy->width;
    }
    out_ = pack_linear("out", spec.action_size, inputs, tensor, kernels);
    reserve(1);
}

void Policy::reserve(int robots) {
    const auto grow = [&](AlignedBuffer<float>& buffer, int columns) {
        const std::size_t size = static_cast<std::size_t>(robots) * columns;
        if (buffer.size() < size) buffer.assign(size);
    };
    grow(from_, hidden_.back().columns);
    grow(to_, hidden_.back().columns);
    grow(actions_, out_.columns);
}

const float* Policy::evaluate(const float* conditions, int robots) noexcept {
    const cpu::OperandKernels& exact = kernels_->of(cpu::Precision::float32);
    const auto product = [&](const PackedLinear& layer, const float* a, float* c) {
        cpu::Product p = layer.product();
        p.rows = robots;
        p.a = a;
        p.a_stride = layer.depth;
        p.c = c;
        p.c_stride = layer.columns;
        return p;
    };
    const float* input = conditions;
    for (const PackedLinear& layer : hidden_) {
        exact.product_gelu(product(layer, input, to_.data()));
        std::swap(from_, to_);
        input = from_.data();
    }
    exact.product_store(product(out_, input, actions_.data()));
    return actions_.data();
}

}  // namespace dmpc
