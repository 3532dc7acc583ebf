// Layer norm without affine part, then the modulation of adaptive layer norm, one row at a time.
namespace dmpc::cpu::DMPC_TARGET {

constexpr float kLayerNormEpsilon = 1e-5f;

template <class Operand>
void norm(const Norm& n) {
    const int last = n.width - (n.width - 1) / kLanes * kLanes;  // columns of the last vector
    const int end = round_up(n.width, kLanes);
    for (int row = 0; row < n.rows; ++row) {
        const float* x = n.x + row * n.x_stride;
        F32 total{};
        for (int i = 0; i < end; i += kLanes) total += load(x + i);
        const F32 mean = splat(sum(total) / static_cast<float>(n.width));
        F32 squares{};
        for (int i = 0; i < end - kLanes; i += kLanes) {
            const F32 centred = load(x + i) - mean;
            squares += centred * centred;
        }
        const F32 centred = keep_first(load(x + end - kLanes) - mean, last, F32{});
        squares += centred * centred;
        const float variance = sum(squares) / static_cast<float>(n.width);
        const float inverse = 1.0f / __builtin_sqrtf(variance + kLayerNormEpsilon);

        auto* out = static_cast<typename Operand::Element*>(n.out) + row * n.out_stride;
        for (int i = 0; i < n.padded; i += kLanes) {
            const F32 normal = (load(x + i) - mean) * inverse;
            Operand::put(out + i, normal * load(n.scale + i) + load(n.shift + i));
        }
    }
}

}  // namespace dmpc::cpu::DMPC_TARGET
