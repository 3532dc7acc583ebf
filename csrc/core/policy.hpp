// The reactive policy: from the condition to the next action in a few matrix-vector products.
#pragma once

#include <vector>

#include "aligned_buffer.hpp"
#include "cpu/kernels.hpp"
#include "dmpc/spec.hpp"
#include "packed_network.hpp"

namespace dmpc {

class Policy {
public:
    /// `tensor` finds the policy's tensors by their names without prefix; `spec` has a policy.
    /// Throws std::bad_alloc.
    Policy(const ModelSpec& spec, const TensorLookup& tensor, const cpu::Kernels& kernels);

    /// Room for so many robots; throws std::bad_alloc.
    void reserve(int robots);

    /// Normalised actions, `stride()` apart, for the normalised conditions (robots, padded depth of
    /// the first layer), within the reserved room.
    const float* evaluate(const float* conditions, int robots) noexcept;
    int stride() const { return out_.columns; }

private:
    const cpu::Kernels* kernels_;
    std::vector<PackedLinear> hidden_;
    PackedLinear out_;
    AlignedBuffer<float> from_, to_, actions_;  // (robots, width) twice, (robots, stride)
};

}  // namespace dmpc
