// NumPy arrays at the seam: refused unless they are exactly what is asked for, never cast or copied
// in silence.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace dmpc::bindings {

namespace py = pybind11;

/// Any size, as a dimension of `input`.
inline constexpr py::ssize_t kAny = -1;

inline std::string text_of(std::initializer_list<py::ssize_t> shape) {
    std::string text = "(";
    for (const py::ssize_t size : shape) {
        text += (text.size() > 1 ? ", " : "") + (size == kAny ? "n" : std::to_string(size));
    }
    return text + ")";
}

/// The elements of a C-contiguous array of T with this shape. Throws TypeError for another dtype
/// and ValueError for another shape or layout, naming the argument.
template <class T>
std::span<const T> input(const char* name, const py::array& array,
                         std::initializer_list<py::ssize_t> shape) {
    if (!py::dtype::of<T>().equal(array.dtype())) {
        throw py::type_error(std::string(name) + " must be an array of " +
                             std::string(py::str(py::dtype::of<T>())) + ", got " +
                             std::string(py::str(array.dtype())));
    }
    bool fits = array.ndim() == static_cast<py::ssize_t>(shape.size());
    py::ssize_t axis = 0;
    for (const py::ssize_t size : shape) {
        fits = fits && (size == kAny || array.shape(axis) == size);
        ++axis;
    }
    const bool aligned = (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
    if (!fits || !aligned || (array.flags() & py::array::c_style) == 0) {
        throw py::value_error(std::string(name) +
                              " must be a C-contiguous, aligned array of shape " + text_of(shape) +
                              ", got shape " + std::string(py::str(array.attr("shape"))));
    }
    return {static_cast<const T*>(array.data()), static_cast<std::size_t>(array.size())};
}

/// An array that takes over the memory of `values`.
template <class T>
py::array_t<T> adopt(std::vector<T>&& values, const std::vector<std::int64_t>& shape) {
    auto owned = std::make_unique<std::vector<T>>(std::move(values));
    const T* data = owned->data();
    const py::capsule owner(owned.get(), [](void* p) { delete static_cast<std::vector<T>*>(p); });
    owned.release();
    return py::array_t<T>(shape, data, owner);
}

}  // namespace dmpc::bindings
