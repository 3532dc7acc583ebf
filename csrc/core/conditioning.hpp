// All modulation vectors of one network for one plan: they depend on robot, noise angle and
// history, not on the candidate, so they are computed once and read by every candidate.
#pragma once

#include "aligned_buffer.hpp"
#include "cpu/kernels.hpp"
#include "packed_network.hpp"

namespace dmpc {

class Conditioning {
public:
    Conditioning(const PackedNetwork& network, const cpu::Kernels& kernels)
        : network_(&network), kernels_(&kernels) {}

    /// Room for `robots` times `rows` noise angles; throws std::bad_alloc.
    void reserve(int robots, int rows);

    /// Embeds the conditions (robots, depth of condition_history) and the features of the angles
    /// (rows, kAngleFeatures; null and 1 row for the objective), within the reserved room.
    void embed(const float* conditions, int robots, const float* angles, int rows) noexcept;

    /// Independent parts of the work that remains after `embed`.
    int parts() const { return network_->sizes.layers + 1; }
    void modulate(int part) noexcept;

    const float* modulation(int robot, int row) const {
        return modulation_.data() + index(robot, row) * network_->modulation_size();
    }
    const float* token_bias(int robot) const {
        return token_bias_.data() + std::ptrdiff_t{robot} * network_->width;
    }

private:
    std::ptrdiff_t index(int robot, int row) const { return std::ptrdiff_t{robot} * rows_ + row; }

    const PackedNetwork* network_;
    const cpu::Kernels* kernels_;
    int robots_ = 0, rows_ = 0;
    AlignedBuffer<float> history_, token_bias_;  // (robots, width)
    AlignedBuffer<float> angles_;                // (rows, width)
    AlignedBuffer<float> hidden_, embedded_;     // (robots, rows, width)
    AlignedBuffer<float> modulation_;            // (robots, rows, modulation_size)
};

}  // namespace dmpc
