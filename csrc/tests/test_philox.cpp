#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "check.hpp"
#include "dmpc/philox.hpp"

namespace {

using namespace dmpc;

/// Known answers of the generator's authors (Random123's kat_vectors, philox4x32 with 10 rounds).
void known_answers() {
    CHECK((philox4x32({0, 0, 0, 0}, 0) ==
           PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
    constexpr std::uint32_t ones = 0xffffffff;
    CHECK((philox4x32({ones, ones, ones, ones}, ~std::uint64_t{0}) ==
           PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
    CHECK((philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822) ==
           PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

void a_prefix_does_not_depend_on_the_length() {
    const NoisePosition position{.seed = 7, .candidate = 3, .plan_index = 9, .robot = 2, .step = 1};
    std::vector<float> whole(23);
    normals(position, whole);
    for (std::size_t length = 0; length < whole.size(); ++length) {
        std::vector<float> part(length + 1, 99.0f);
        normals(position, std::span(part).first(length));
        CHECK(std::equal(part.begin(), part.end() - 1, whole.begin()));
        CHECK(part.back() == 99.0f);
    }
}

void every_word_of_the_position_counts() {
    const NoisePosition base{.seed = 1};
    const auto first = [](const NoisePosition& position) {
        float value = 0;
        normals(position, std::span(&value, 1));
        return value;
    };
    NoisePosition other = base;
    other.seed = std::uint64_t{1} << 32 | 1;
    CHECK(first(other) != first(base));
    other = base;
    other.candidate = 1;
    CHECK(first(other) != first(base));
    other = base;
    other.plan_index = 1;
    CHECK(first(other) != first(base));
    other = base;
    other.robot = 1;
    CHECK(first(other) != first(base));
    other = base;
    other.stage = 1;
    CHECK(first(other) != first(base));
    other = base;
    other.step = 1;
    CHECK(first(other) != first(base));
}

void moments_are_normal() {
    std::vector<float> values(1 << 18);
    normals({.seed = 11}, values);
    double sum = 0, squares = 0, fourth = 0;
    for (const float x : values) {
        sum += x;
        squares += double{x} * x;
        fourth += double{x} * x * x * x;
    }
    const double count = static_cast<double>(values.size());
    const double error = 5.0 / std::sqrt(count);  // five standard errors of the mean
    CHECK(std::abs(sum / count) < error);
    CHECK(std::abs(squares / count - 1.0) < error * std::sqrt(2.0));
    CHECK(std::abs(fourth / count - 3.0) < error * std::sqrt(96.0));
}

}  // namespace

int main() {
    known_answers();
    a_prefix_does_not_depend_on_the_length();
    every_word_of_the_position_counts();
    moments_are_normal();
}
