// The denoising update of a sampler row.
namespace dmpc::cpu::DMPC_TARGET {

inline void update(const Update& u) {
    for (int row = 0; row < u.rows; ++row) {
        float* x = u.x + static_cast<std::ptrdiff_t>(row) * u.size;
        const float* v = u.velocity + row * u.velocity_stride;
        if (u.eps == nullptr) {
            for (int i = 0; i < u.size; ++i) x[i] = u.a * x[i] + u.b * v[i];
            continue;
        }
        const float* eps = u.eps + static_cast<std::ptrdiff_t>(row) * u.size;
        for (int i = 0; i < u.size; ++i) x[i] = u.a * x[i] + u.b * v[i] + u.noise * eps[i];
    }
}

}  // namespace dmpc::cpu::DMPC_TARGET
