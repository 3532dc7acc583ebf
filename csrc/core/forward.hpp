// One evaluation of a network for a chunk of candidates whose activations stay in cache.
#pragma once

#include <cstddef>

#include "aligned_buffer.hpp"
#include "cpu/kernels.hpp"
#include "packed_network.hpp"

namespace dmpc {

/// Activations of one worker, large enough for every network it was made for.
class Activations {
public:
    /// Makes room for `candidates` of `network`; throws std::bad_alloc.
    void reserve(const PackedNetwork& network, int candidates, const cpu::Kernels& kernels);

    /// Input rows (candidates x tokens, features padded), to be filled before `forward`.
    float* features() { return features_.data(); }
    /// Output rows (candidates x tokens, outputs padded), valid after `forward`.
    const float* outputs() const { return outputs_.data(); }

private:
    friend void forward(const PackedNetwork&, const cpu::Kernels&, const float*, const float*, int,
                        Activations&) noexcept;

    AlignedBuffer<float> features_, outputs_, residual_, scratch_, quantised_;
    // Operand type: float32 or narrower.
    AlignedBuffer<float> normed_, qkv_, attended_, hidden_;
};

/// Runs `candidates` through the network.
///
/// modulation: `modulation_size()` floats of this noise angle. token_bias: (width), what is added
/// to every token besides its position (the token layer's own bias, and the history where the
/// network adds it).
void forward(const PackedNetwork& network, const cpu::Kernels& kernels, const float* modulation,
             const float* token_bias, int candidates, Activations& activations) noexcept;

}  // namespace dmpc
