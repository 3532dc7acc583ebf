// Samplers compiled to rows: the only sines and cosines of a noise angle in the engine.
#pragma once

#include <vector>

#include "aligned_buffer.hpp"
#include "deadline.hpp"
#include "dmpc/spec.hpp"
#include "packed_network.hpp"

namespace dmpc {

/// One network evaluation and update, x <- a x + b v + noise eps. Row i of a sampler uses step i +
/// 1 of the random stream for eps.
struct SamplerRow {
    double t = 0, s = 0;
    double a = 0, b = 0, noise = 0;
};

/// Row `index` of a sampler at a level, which keeps the first of its angles and of the others every
/// so many.
SamplerRow compile_row(const SamplerSpec& sampler, int index, int level = 0) noexcept;

/// Fourier features of t, then of s: kAngleFeatures floats.
void angle_features(const SamplerRow& row, float* out) noexcept;

/// The rows of all candidate groups of a stage; groups with the model's own sampler share rows.
class Schedule {
public:
    /// Room for `groups` and `rows`; throws std::bad_alloc.
    void reserve(int groups, int rows);

    /// Forgets the groups, keeps the memory.
    void clear() noexcept;

    /// Appends a group; null means `own`, the model's sampler. False where room is lacking.
    bool add_group(const SamplerSpec* sampler, const SamplerSpec& own, int level = 0) noexcept;

    int rows() const { return rows_; }
    int first_row(int group) const { return groups_[group].first; }
    int row_count(int group) const { return groups_[group].count; }
    const SamplerRow& row(int index) const { return table_[index]; }
    const float* features() const { return features_.data(); }  // (rows, kAngleFeatures)

private:
    struct Range {
        int first, count;
    };
    std::vector<SamplerRow> table_;
    AlignedBuffer<float> features_;
    std::vector<Range> groups_;
    int group_count_ = 0, rows_ = 0;
    Range own_{-1, 0};  // rows of the model's sampler, the latest of its levels
};

}  // namespace dmpc
