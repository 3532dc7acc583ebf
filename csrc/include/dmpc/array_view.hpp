// A borrowed array: what a caller's memory is, never who owns it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace dmpc {

enum class DType { float32, float64, int32, int64, uint8, uint32, bool8 };
enum class Device { cpu, cuda };

constexpr std::size_t bytes_of(DType dtype) noexcept {
    switch (dtype) {
        case DType::float32:
        case DType::int32:
        case DType::uint32: return 4;
        case DType::float64:
        case DType::int64: return 8;
        case DType::uint8:
        case DType::bool8: return 1;
    }
    return 0;
}

/// Of up to kMaxRank dimensions; strides count bytes, as in NumPy.
struct ArrayView {
    static constexpr int kMaxRank = 5;

    void* data = nullptr;
    DType dtype = DType::float32;
    Device device = Device::cpu;
    int rank = 0;
    std::array<std::int64_t, kMaxRank> shape{};
    std::array<std::int64_t, kMaxRank> strides{};

    std::int64_t count() const noexcept {
        std::int64_t product = 1;
        for (int i = 0; i < rank; ++i) product *= shape[static_cast<std::size_t>(i)];
        return product;
    }

    bool contiguous() const noexcept {
        auto expected = static_cast<std::int64_t>(bytes_of(dtype));
        for (int i = rank; i-- > 0;) {
            const auto axis = static_cast<std::size_t>(i);
            if (shape[axis] != 1 && strides[axis] != expected) return false;
            expected *= shape[axis];
        }
        return true;
    }
};

}  // namespace dmpc
