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

SamplerRow compile_row(const SamplerSpec& sampler, int index, int level) noexcept {
    const auto all = static_cast<int>(sampler.angles.size());
    const int count = steps_at(all, level);
    const double t = sampler.angles[index * all / count];
    const double s = index + 1 < count ? sampler.angles[(index + 1) * all / count] : 0.0;
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
    own_ = {-1, 0};
}

bool Schedule::add_group(const SamplerSpec* sampler, const SamplerSpec& own, int level) noexcept {
    const SamplerSpec& chosen = sampler ? *sampler : own;
    const int count = steps_at(static_cast<int>(chosen.angles.size()), level);
    if (group_count_ == static_cast<int>(groups_.size())) return false;
    if (!sampler && own_.first >= 0 && own_.count == count) {
        groups_[group_count_++] = own_;
        return true;
    }
    if (rows_ + count > static_cast<int>(table_.size())) return false;
    if (!sampler) own_ = {rows_, count};
    groups_[group_count_++] = {rows_, count};
    for (int i = 0; i < count; ++i, ++rows_) {
        table_[rows_] = compile_row(chosen, i, level);
        angle_features(table_[rows_], features_.data() + std::ptrdiff_t{rows_} * kAngleFeatures);
    }
    return true;
}

}  // namespace dmpc
