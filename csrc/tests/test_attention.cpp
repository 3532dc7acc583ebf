// Attention kernels of every instruction set against sums in double precision: logits near zero,
// and ones so large, small or far apart that a power of two of them leaves the range of numbers.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "check.hpp"
#include "core/aligned_buffer.hpp"
#include "cpu/kernels.hpp"

namespace {

using namespace dmpc;

struct Case {
    int tokens, heads, head_size;  // head_size: a multiple of all instruction sets' vectors
    float offset, spread;          // of the logits, roughly
};

constexpr Case kCases[] = {{32, 2, 32, 0.0f, 3.0f},   {8, 3, 16, 0.0f, 3.0f},
                           {33, 2, 16, 300.0f, 5.0f}, {5, 1, 32, -300.0f, 5.0f},
                           {17, 2, 32, 0.0f, 400.0f}, {48, 1, 16, 62.0f, 4.0f},
                           {2, 3, 32, 0.0f, 3.0f},    {2, 1, 48, 300.0f, 400.0f},
                           {4, 3, 16, -300.0f, 5.0f}, {4, 1, 64, 0.0f, 400.0f}};

std::vector<double> expected(const Case& c, const std::vector<float>& qkv, int candidate,
                             int head) {
    const int stride = c.heads * 3 * c.head_size;
    const auto at = [&](int token, int part, int i) {
        return double{qkv[static_cast<std::size_t>(candidate * c.tokens + token) * stride +
                          (3 * head + part) * c.head_size + i]};
    };
    std::vector<double> out;
    for (int t = 0; t < c.tokens; ++t) {
        std::vector<double> logits(c.tokens, 0.0);
        for (int s = 0; s < c.tokens; ++s) {
            for (int i = 0; i < c.head_size; ++i) logits[s] += at(t, 0, i) * at(s, 1, i);
        }
        const double top = *std::max_element(logits.begin(), logits.end());
        double total = 0;
        for (double& logit : logits) total += logit = std::exp2(logit - top);
        for (int i = 0; i < c.head_size; ++i) {
            double sum = 0;
            for (int s = 0; s < c.tokens; ++s) sum += logits[s] / total * at(s, 2, i);
            out.push_back(sum);
        }
    }
    return out;
}

void attends(const cpu::Kernels& kernels, const Case& c) {
    constexpr int candidates = 3;  // odd: heads that a kernel takes together have a remainder
    const int stride = c.heads * 3 * c.head_size, inner = c.heads * c.head_size;
    std::mt19937 random(std::random_device{}());
    std::normal_distribution<float> normal;
    std::vector<float> qkv(static_cast<std::size_t>(candidates * c.tokens) * stride);
    const float scale = std::sqrt(c.spread / std::sqrt(static_cast<float>(c.head_size)));
    for (std::size_t i = 0; i < qkv.size(); ++i) {
        const int column = static_cast<int>(i % stride) % (3 * c.head_size);
        const bool value = column >= 2 * c.head_size;
        qkv[i] = normal(random) * (value ? 1.0f : scale);
        // One product of q and k is the offset of all logits.
        if (column == 0) qkv[i] = 16.0f;
        if (column == c.head_size) qkv[i] = c.offset / 16.0f;
    }
    AlignedBuffer<float> scratch;
    scratch.assign(kernels.attention_scratch(c.tokens, c.head_size));
    std::vector<float> out(static_cast<std::size_t>(candidates * c.tokens) * inner);
    kernels.of(cpu::Precision::float32)
        .attention({.candidates = candidates,
                    .tokens = c.tokens,
                    .heads = c.heads,
                    .head_size = c.head_size,
                    .qkv = qkv.data(),
                    .qkv_stride = stride,
                    .out = out.data(),
                    .out_stride = inner,
                    .scratch = scratch.data()});
    // A logit's rounding is the weight's relative error.
    const double bound = 1e-5 + 2e-6 * (std::abs(c.offset) + 4.0 * c.spread);
    for (int candidate = 0; candidate < candidates; ++candidate) {
        for (int head = 0; head < c.heads; ++head) {
            const std::vector<double> want = expected(c, qkv, candidate, head);
            double worst = 0;
            for (int t = 0; t < c.tokens; ++t) {
                for (int i = 0; i < c.head_size; ++i) {
                    const double got =
                        out[static_cast<std::size_t>(candidate * c.tokens + t) * inner +
                            head * c.head_size + i];
                    const double error = std::abs(got - want[t * c.head_size + i]);
                    worst = error <= worst ? worst : error;  // not a number: worst
                }
            }
            if (!(worst <= bound)) std::printf("%s: %g > %g\n", kernels.name, worst, bound);
            CHECK(worst <= bound);
        }
    }
}

}  // namespace

int main() {
    using cpu::InstructionSet;
    for (const auto set : {InstructionSet::portable, InstructionSet::avx2, InstructionSet::avx512,
                           InstructionSet::avx512_bf16}) {
        const cpu::Kernels* kernels = cpu::select_kernels(set);
        if (!kernels) continue;
        for (const Case& c : kCases) attends(*kernels, c);
    }
    return 0;
}
