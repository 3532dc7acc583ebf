// Denoising: the start of a sampler, its rows, and the way back to environment units.
#pragma once

#include "network.cuh"
#include "noise.cuh"

namespace dmpc::cuda {

/// What is denoised: (B, N, F, size) arrays, and where the result goes in environment units.
struct Denoised {
    float *x, *out;
    int size;
    Units units;
    int stage;  // of the random stream
};

DMPC_DEVICE NoiseStream noise_stream(const PlanParams& p, const Candidates& c, int candidate,
                                     int stage, int step) {
    return {*p.seed, static_cast<std::uint32_t>(candidate), p.plan_index[c.robot],
            p.robot[c.robot] << 16 | static_cast<std::uint32_t>(stage << 8 | step)};
}

/// Elements of the first candidate on, of one robot.
DMPC_DEVICE std::int64_t trajectory(const PlanParams& p, const Candidates& c, int candidate,
                                    int size) {
    return (std::int64_t{c.robot} * p.candidates + candidate) * p.horizon * size;
}

/// Which things a thread of the set's blocks takes: its first, and the step to the next.
struct Stride {
    int first, step;
};
template <class Element>
DMPC_DEVICE Stride across_set(const Room<Element>& room) {
    return {room.place.split * kThreads + device::thread(), room.place.splits * kThreads};
}

/// x = noise, or the group's actions, normalised and re-noised.
DMPC_DEVICE void start_sampler(const PlanParams& p, const Candidates& c, const Denoised& d,
                               const Stride& stride) {
    const Group& group = p.group[c.group];
    const bool given = d.stage == 0 && group.start != nullptr;
    const int elements = p.horizon * d.size, fours = ceil_divide(elements, 4);
    for (int i = stride.first; i < c.count * fours; i += stride.step) {
        const int candidate = c.first + i / fours, block = i % fours;
        float noise[4];
        four_normals(noise_stream(p, c, candidate, d.stage, 0), block, noise);
        float* x = d.x + trajectory(p, c, candidate, d.size);
        for (int k = 0; k < 4 && 4 * block + k < elements; ++k) {
            const int element = 4 * block + k;
            float value = noise[k];
            if (given) {
                const std::int64_t at =
                    (std::int64_t{c.robot} * group.count + candidate - group.first) * elements +
                    element;
                const int i_unit = element % d.size;
                const float raw = (group.start[at] - d.units.mean[i_unit]) / d.units.scale[i_unit];
                value = group.start_cos * raw + group.start_sin * value;
            }
            x[element] = value;
        }
    }
}

/// Takes over trajectories that were given in environment units.
DMPC_DEVICE void normalise(const PlanParams& p, const Candidates& c, const Denoised& d,
                           const Stride& stride) {
    const std::int64_t base = trajectory(p, c, c.first, d.size);
    for (int i = stride.first; i < c.count * p.horizon * d.size; i += stride.step) {
        const int unit = i % d.size;
        d.x[base + i] = (d.out[base + i] - d.units.mean[unit]) / d.units.scale[unit];
    }
}

/// Takes candidates through the rows of their sampler; the cluster synchronises before and after.
template <class P>
DMPC_DEVICE void denoise(const PlanParams& p, const Network& n, const Candidates& c,
                         const Denoised& d, const float* clean, const SamplerRow* rows, int first,
                         int count, std::uint8_t* shared, Room<typename P::Element>& room) {
    const auto s = make_stream<P>(n, p.shared, shared, c.count, room);
    const std::int64_t robot = std::int64_t{c.robot} * p.candidates * p.horizon;
    const Features features{d.x + robot * d.size,
                            clean == nullptr ? nullptr : clean + robot * n.second_size};
    for (int i = 0; i < count; ++i) {
        const SamplerRow row = rows[first + i];
        const bool last = i + 1 == count;
        const Modulation modulation = modulation_of(n, c.robot, first + i);
        evaluate<P>(n, p.horizon, c, features, modulation, s, room);
        last_layer(n, s, [&](int stream_row, int output, float velocity) {
            const int candidate = c.first + stream_row / n.tokens;
            const int element = stream_row % n.tokens * n.outputs + output, unit = output % d.size;
            const std::int64_t at = trajectory(p, c, candidate, d.size) + element;
            float x = row.a * d.x[at] + row.b * velocity;
            if (row.noise != 0) {
                x += row.noise * one_normal(noise_stream(p, c, candidate, d.stage, i + 1), element);
            }
            if (last) {
                const float mean = d.units.mean[unit], scale = d.units.scale[unit];
                const float real =
                    fminf(fmaxf(x * scale + mean, d.units.low[unit]), d.units.high[unit]);
                d.out[at] = real;
                x = (real - mean) / scale;
            }
            d.x[at] = x;
        });
    }
}

}  // namespace dmpc::cuda
