#include "sampler.hpp"

#include <cmath>

namespace dmpc {
namespace {

constexpr int kFrequencies = kAngleFeatures / 4;
constexpr double kMaxFrequency = 64.0;

void features_of(double angle, float* out) {
    for (int i = 0; i < kFrequencies; ++i) {
        const double exponent = static_cast<double>(i) / (kFrequencies - 1);
        const double phase = angle * std::pow(kMaxFrequency, exponent);
        out[i] = static_cast<float>(std::sin(phase));
        out[kFrequencies + i] = static_cast<float>(std::cos(phase));
    }
}

}  // namespace

SamplerRow compile_row(const SamplerSpec& sampler, int index) noexcept {
    const auto count = static_cast<int>(sampler.angles.size());
    const double t = sampler.angles[index];
    const double s = index + 1 < count ? sampler.angles[index + 1] : 0.0;
    if (sampler.rule == SamplerRule::ddim) return {t, s, std::cos(t - s), -std::sin(t - s), 0.0};
    return {t, 0.0, std::cos(s) * std::cos(t), -std::cos(s) * std::sin(t), std::sin(s)};
}

void angle_features(const SamplerRow& row, float* out) noexcept {
    features_of(row.t, out);
    features_of(row.s, out + kAngleFeatures / 2);
}

void Schedule::reserve(int groups, int rows) {
    if (static_cast<int>(groups_.size()) < groups) groups_.resize(groups);
    if (static_cast<int>(table_.size()) < rows) {
        table_.resize(rows);
        features_.assign(static_cast<std::size_t>(rows) * kAngleFeatures);
    }
}

void Schedule::clear() noexcept {
    group_count_ = rows_ = 0;
    own_first_ = -1;
}

bool Schedule::add_group(const SamplerSpec* sampler, const SamplerSpec& own) noexcept {
    const SamplerSpec& chosen = sampler ? *sampler : own;
    const auto count = static_cast<int>(chosen.angles.size());
    if (group_count_ == static_cast<int>(groups_.size())) return false;
    if (!sampler && own_first_ >= 0) {
        groups_[group_count_++] = {own_first_, count};
        return true;
    }
    if (rows_ + count > static_cast<int>(table_.size())) return false;
    if (!sampler) own_first_ = rows_;
    groups_[group_count_++] = {rows_, count};
    for (int i = 0; i < count; ++i, ++rows_) {
        table_[rows_] = compile_row(chosen, i);
        angle_features(table_[rows_], features_.data() + std::ptrdiff_t{rows_} * kAngleFeatures);
    }
    return true;
}

}  // namespace dmpc
