// Where one evaluation of a network spends its time, kernel by kernel, as the engine runs them.
//
//     kernels [layers width heads head_size mlp [patch horizon [candidates [seconds [cpu]]]]]
//
// Wraps every kernel of the chosen table in a clock and takes `candidates` through `forward`, chunk
// by chunk, in every precision. Prints JSON: per precision and kernel the microseconds of one
// evaluation (the least over repetitions: other work on the machine only adds), its matrix FLOPs
// and the bytes of weights and activations that it touches, chunk by chunk.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/forward.hpp"
#include "core/packed_network.hpp"
#include "cpu/kernels.hpp"

namespace {

using namespace dmpc;

clockid_t g_clock = CLOCK_MONOTONIC;

double now_ns() {
    timespec time;
    clock_gettime(g_clock, &time);
    return 1e9 * static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec);
}

constexpr int kStates = 11, kActions = 3;  // Hopper's

enum Phase { tokens, norm, qkv, attention, projection, mlp_in, mlp_out, last, phases };
constexpr const char* kPhaseNames[] = {"tokens",     "norm",   "qkv",     "attention",
                                       "projection", "mlp_in", "mlp_out", "last"};

struct Tally {
    double nanoseconds = 0, flops = 0, bytes = 0;
};

// The wrapped kernels are plain functions, so what they share is global.
const cpu::OperandKernels* g_inner[cpu::kPrecisions];
const float* g_modulation = nullptr;
int g_width = 0;
Tally g_tally[phases];

template <class Run>
void timed(Phase phase, double flops, double bytes, Run run) {
    const double begin = now_ns();
    run();
    Tally& tally = g_tally[phase];
    tally.nanoseconds += now_ns() - begin;
    tally.flops += flops;
    tally.bytes += bytes;
}

constexpr double kWeightBytes[] = {4, 2, 1};

template <int P>
void product(Phase phase, const cpu::Product& p, double out_bytes,
             void (*kernel)(const cpu::Product&)) {
    const double rows = p.rows, depth = p.depth, columns = p.columns;
    const double bytes = depth * columns * kWeightBytes[P] +
                         rows * depth * g_inner[P]->element_bytes + rows * columns * out_bytes;
    timed(phase, 2 * rows * depth * columns, bytes, [&] { kernel(p); });
}

template <int P>
cpu::OperandKernels wrapped(const cpu::OperandKernels& inner) {
    g_inner[P] = &inner;
    cpu::OperandKernels w = inner;
    w.product_store = [](const cpu::Product& p) {
        product<P>(last, p, 4, g_inner[P]->product_store);
    };
    w.product_tokens = [](const cpu::Product& p) {
        product<P>(tokens, p, 4, g_inner[P]->product_tokens);
    };
    w.product_operand = [](const cpu::Product& p) {
        product<P>(qkv, p, g_inner[P]->element_bytes, g_inner[P]->product_operand);
    };
    w.product_gelu = [](const cpu::Product& p) {
        product<P>(mlp_in, p, g_inner[P]->element_bytes, g_inner[P]->product_gelu);
    };
    w.product_residual = [](const cpu::Product& p) {
        const auto vector = (p.gate - g_modulation) / g_width % kBlockModulations;
        product<P>(vector == kGateAttention ? projection : mlp_out, p, 8,
                   g_inner[P]->product_residual);
    };
    w.norm = [](const cpu::Norm& n) {
        timed(norm, 0, double{1} * n.rows * n.padded * (4 + g_inner[P]->element_bytes),
              [&] { g_inner[P]->norm(n); });
    };
    w.attention = [](const cpu::Attention& t) {
        const double rows = double{1} * t.candidates * t.tokens;
        const double inner_size = double{1} * t.heads * t.head_size;
        timed(attention, 4 * rows * t.tokens * inner_size,
              rows * inner_size * 4 * g_inner[P]->element_bytes, [&] { g_inner[P]->attention(t); });
    };
    return w;
}

NetworkSizes sizes_from(int argc, char** argv) {
    const auto argument = [&](int index, int absent) {
        return index < argc ? std::atoi(argv[index]) : absent;
    };
    return {.layers = argument(1, 3),
            .width = argument(2, 128),
            .heads = argument(3, 4),
            .head_size = argument(4, 32),
            .mlp = argument(5, 256),
            .patch = argument(6, 1),
            .horizon = argument(7, 32),
            .condition = kStates,
            .noisy = kStates,
            .clean = kActions,
            .outputs = kStates,
            .history_tokens = false};
}

/// Random tensors of a network by name, made when first asked for.
class RandomTensors {
public:
    explicit RandomTensors(const NetworkSizes& n) {
        std::int64_t most = 0;
        const int token = n.patch * (n.noisy + n.clean);
        for (const int side : {n.width, n.mlp, 3 * n.heads * n.head_size, 6 * n.width, token}) {
            most = std::max<std::int64_t>(most, side);
        }
        values_.resize(static_cast<std::size_t>(most * most));
        std::mt19937 random(7);
        std::normal_distribution<float> normal(0.0f, 1.0f / std::sqrt(float(n.width)));
        for (float& value : values_) value = normal(random);
    }
    const float* operator()(const std::string&) const { return values_.data(); }

private:
    std::vector<float> values_;
};

int rows_per_chunk(const NetworkSizes& n) {  // as Engine chooses
    const std::int64_t weights =
        std::int64_t{n.width} * (4 * n.heads * n.head_size + 2 * std::int64_t{n.mlp});
    return weights > 512 * 1024 ? 256 : 128;
}

}  // namespace

int main(int argc, char** argv) {
    const NetworkSizes sizes = sizes_from(argc, argv);
    const int candidates = argc > 8 ? std::atoi(argv[8]) : 64;
    const double seconds = argc > 9 ? std::atof(argv[9]) : 1.0;
    if (argc > 10 && std::string(argv[10]) == "cpu") g_clock = CLOCK_THREAD_CPUTIME_ID;
    const RandomTensors tensors(sizes);
    const cpu::Kernels& real = *cpu::select_kernels(cpu::InstructionSet::automatic);
    cpu::Kernels clocked = real;
    clocked.operand[0] = wrapped<0>(real.operand[0]);
    clocked.operand[1] = wrapped<1>(real.operand[1]);
    clocked.operand[2] = wrapped<2>(real.operand[2]);
    const cpu::FlushDenormals flush;
    constexpr const char* names[] = {"float32", "bf16", "int8"};
    std::printf("{\n");
    for (int precision = 0; precision < cpu::kPrecisions; ++precision) {
        const PackedNetwork network(sizes, std::cref(tensors), real,
                                    static_cast<cpu::Precision>(precision));
        const int chunk = std::max(1, rows_per_chunk(sizes) / sizes.tokens());
        Activations activations;
        activations.reserve(network, chunk, real);
        std::mt19937 random(1);
        std::normal_distribution<float> normal;
        for (int i = 0; i < chunk * sizes.tokens() * network.token.depth; ++i) {
            activations.features()[i] = normal(random);
        }
        std::vector<float> modulation(static_cast<std::size_t>(network.modulation_size()));
        for (float& value : modulation) value = 0.5f * normal(random);
        g_modulation = modulation.data();
        g_width = network.width;
        std::vector<double> taken[phases + 1];
        const auto evaluate = [&](const cpu::Kernels& kernels) {
            for (int done = 0; done < candidates; done += chunk) {
                forward(network, kernels, modulation.data(), network.token.bias.data(),
                        std::min(chunk, candidates - done), activations);
            }
        };
        const double end = now_ns() + 1e9 * seconds;
        do {
            std::fill(std::begin(g_tally), std::end(g_tally), Tally{});
            evaluate(clocked);
            for (int i = 0; i < phases; ++i) taken[i].push_back(g_tally[i].nanoseconds);
            const double begin = now_ns();
            evaluate(real);
            taken[phases].push_back(now_ns() - begin);
        } while (now_ns() < end);
        std::printf(" \"%s\": {\n", names[precision]);
        const auto least = [](const std::vector<double>& values) {
            return *std::min_element(values.begin(), values.end()) / 1e3;
        };
        for (int i = 0; i < phases; ++i) {
            std::printf("  \"%s\": {\"us\": %.2f, \"mflop\": %.3f, \"kib\": %.1f},\n",
                        kPhaseNames[i], least(taken[i]), g_tally[i].flops / 1e6,
                        g_tally[i].bytes / 1024);
        }
        std::printf("  \"all\": {\"us\": %.2f}\n }%s\n", least(taken[phases]),
                    precision + 1 < cpu::kPrecisions ? "," : "");
    }
    std::printf("}\n");
}
