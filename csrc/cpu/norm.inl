// Layer norm without affine part, then the modulation of adaptive layer norm, one row at a time.
namespace dmpc::cpu::DMPC_TARGET {

constexpr float kLayerNormEpsilon = 1e-5f;

/// Rows go through each step side by side: their long latencies (sums across a vector, square root,
/// division) overlap, and the last two are taken for a whole vector of rows at once.
template <class Operand>
void norm(const Norm& n) {
    const int end = round_up(n.width, kLanes) - kLanes;  // start of the last vector
    const float width = static_cast<float>(n.width);
    for (int first = 0; first < n.rows; first += kLanes) {
        const int rows = minimum(kLanes, n.rows - first);
        const float* x = n.x + first * n.x_stride;
        float mean[kLanes] = {}, inverse[kLanes] = {};
        for (int row = 0; row < rows; ++row) {
            F32 total{};
            for (int i = 0; i <= end; i += kLanes) total += load(x + row * n.x_stride + i);
            mean[row] = sum(total);
        }
        store(mean, load(mean) / width);
        for (int row = 0; row < rows; ++row) {
            const float* from = x + row * n.x_stride;
            const F32 middle = splat(mean[row]);
            F32 squares{};
            for (int i = 0; i < end; i += kLanes) {
                const F32 centred = load(from + i) - middle;
                squares += centred * centred;
            }
            const F32 centred = keep_first(load(from + end) - middle, n.width - end, F32{});
            inverse[row] = sum(squares + centred * centred);
        }
        store(inverse, 1.0f / square_root(load(inverse) / width + kLayerNormEpsilon));

        auto* out = static_cast<typename Operand::Element*>(n.out) + first * n.out_stride;
        for (int i = 0; i < n.padded; i += kLanes) {
            const F32 scale = load(n.scale + i), shift = load(n.shift + i);
            for (int row = 0; row < rows; ++row) {
                const F32 normal = (load(x + row * n.x_stride + i) - mean[row]) * inverse[row];
                Operand::put(out + row * n.out_stride + i, normal * scale + shift);
            }
        }
    }
}

}  // namespace dmpc::cpu::DMPC_TARGET
