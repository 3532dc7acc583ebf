// Reads model files (design: one .safetensors file whose metadata holds the model's description).
//
// A model file is untrusted input. Everything in it is checked before it is used: header, sizes,
// offsets, dtypes, that all tensors of the description are there and no others, that every number
// is finite. What is wrong is named in a ModelFileError.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dmpc/spec.hpp"

namespace dmpc {

/// A dense array, row-major.
struct Tensor {
    Shape shape;
    std::vector<float> values;
};

/// A validated model: its description and every tensor that the description asks for.
struct Model {
    ModelSpec spec;
    std::map<std::string, Tensor, std::less<>> tensors;

    /// Throws std::out_of_range for a name that is not in `spec.tensor_shapes()`.
    const Tensor& tensor(std::string_view name) const;
};

/// Throws ModelFileError for a file that is not a model, std::system_error for one that cannot be
/// read, std::bad_alloc.
Model load_model(const std::filesystem::path& path);

/// A model file's whole content in memory, of any alignment.
Model load_model(std::span<const std::byte> content);

}  // namespace dmpc
