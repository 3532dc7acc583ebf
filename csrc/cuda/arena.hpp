// Arrays one after another in one piece of memory, so that a single copy moves them all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace dmpc::cuda {

inline constexpr std::size_t kAlignment = 256;

/// Appends `values`, aligned, and gives their offset.
template <class T>
std::size_t append(std::vector<std::uint8_t>& bytes, std::span<const T> values) {
    const std::size_t at = (bytes.size() + kAlignment - 1) / kAlignment * kAlignment;
    bytes.resize(at + values.size_bytes());
    if (!values.empty()) std::memcpy(bytes.data() + at, values.data(), values.size_bytes());
    return at;
}
template <class T>
std::size_t append(std::vector<std::uint8_t>& bytes, const std::vector<T>& values) {
    return append(bytes, std::span<const T>(values));
}

/// Hands out aligned room; total() is what it takes.
class Layout {
public:
    template <class T>
    std::size_t take(std::size_t count) {
        const std::size_t at = total_;
        total_ = (total_ + count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
        return at;
    }
    std::size_t total() const { return total_; }

private:
    std::size_t total_ = 0;
};

}  // namespace dmpc::cuda
