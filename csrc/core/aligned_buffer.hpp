// Memory for kernels: aligned to a cache line, zeroed, freed with its owner.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

namespace dmpc {

/// `size` zeroed elements of a trivial type. Grows only through `assign`.
template <class T>
class AlignedBuffer {
public:
    AlignedBuffer() = default;
    explicit AlignedBuffer(std::size_t size) { assign(size); }

    /// Replaces the contents by `size` zeros; throws std::bad_alloc.
    void assign(std::size_t size) {
        data_.reset(static_cast<T*>(::operator new(size * sizeof(T), kAlignment)));
        std::memset(static_cast<void*>(data_.get()), 0, size * sizeof(T));
        size_ = size;
    }

    T* data() { return data_.get(); }
    const T* data() const { return data_.get(); }
    std::size_t size() const { return size_; }
    T& operator[](std::size_t i) { return data_.get()[i]; }
    const T& operator[](std::size_t i) const { return data_.get()[i]; }

private:
    static constexpr std::align_val_t kAlignment{64};
    struct Free {
        void operator()(T* data) const { ::operator delete(data, kAlignment); }
    };
    std::unique_ptr<T, Free> data_;
    std::size_t size_ = 0;
};

}  // namespace dmpc
