#include "conditioning.hpp"

#include <algorithm>

namespace dmpc {

void Conditioning::reserve(int robots, int rows) {
    const auto width = static_cast<std::size_t>(network_->width);
    const auto grow = [](AlignedBuffer<float>& buffer, std::size_t size) {
        if (buffer.size() < size) buffer.assign(size);
    };
    const std::size_t count = static_cast<std::size_t>(robots) * rows;
    grow(history_, robots * width);
    grow(token_bias_, robots * width);
    grow(angles_, rows * width);
    grow(hidden_, count * width);
    grow(embedded_, count * width);
    grow(modulation_, count * network_->modulation_size());
}

void Conditioning::embed(const float* conditions, int robots, const float* angles,
                         int rows) noexcept {
    const PackedNetwork& n = *network_;
    const cpu::OperandKernels& exact = kernels_->of(cpu::Precision::float32);
    robots_ = robots;
    rows_ = rows;
    const auto multiply = [&](const PackedLinear& layer, int count, const float* a, float* c) {
        cpu::Product p = layer.product();
        p.rows = count;
        p.a = a;
        p.a_stride = layer.depth;
        p.c = c;
        p.c_stride = n.width;
        exact.product_store(p);
    };

    multiply(n.condition_history, robots, conditions, history_.data());
    if (angles) multiply(n.angles, rows, angles, angles_.data());
    if (n.sizes.history_tokens) {
        multiply(n.history_tokens, robots, conditions, token_bias_.data());
    } else {
        std::fill_n(token_bias_.data(), std::ptrdiff_t{robots} * n.width, 0.0f);
    }
    for (int robot = 0; robot < robots; ++robot) {
        float* token = token_bias_.data() + std::ptrdiff_t{robot} * n.width;
        for (int i = 0; i < n.width; ++i) token[i] += n.token.bias[i];
        const float* history = history_.data() + std::ptrdiff_t{robot} * n.width;
        for (int row = 0; row < rows; ++row) {
            float* hidden = hidden_.data() + index(robot, row) * n.width;
            const float* angle = angles_.data() + std::ptrdiff_t{row} * n.width;
            for (int i = 0; i < n.width; ++i) hidden[i] = history[i] + (angles ? angle[i] : 0.0f);
        }
    }
    const int count = robots * rows;
    kernels_->silu(hidden_.data(), count * n.width);
    multiply(n.condition_out, count, hidden_.data(), embedded_.data());
    kernels_->silu(embedded_.data(), count * n.width);
}

void Conditioning::modulate(int part) noexcept {
    const PackedNetwork& n = *network_;
    const bool last = part == n.sizes.layers;
    cpu::Product p = last ? n.final_modulation.product() : n.blocks[part].modulation.product();
    p.rows = robots_ * rows_;
    p.a = embedded_.data();
    p.a_stride = n.width;
    p.c = modulation_.data() + std::ptrdiff_t{part} * kBlockModulations * n.width;
    p.c_stride = n.modulation_size();
    kernels_->of(cpu::Precision::float32).product_store(p);
}

}  // namespace dmpc
