// What launchers take: sizes and device pointers, nothing that owns anything. Plain C++, so that
// host code, device code and the emulation share it.
#pragma once

#include <cstdint>

namespace dmpc::cuda {

inline constexpr int kLanes = 32, kWarps = 8, kThreads = kLanes * kWarps;
/// Numbers of a term: kind, index, weight, a, b, log |weight|.
inline constexpr int kTermColumns = 6;
/// Reward, logit of going on, value.
inline constexpr int kObjectiveOutputs = 3;
/// Blocks of a cluster, at most: sets of candidates times the blocks that share one.
inline constexpr int kMaxCluster = 8;

enum class TermKind : int { reward, value, alive, gaussian, quadratic, speed, action, bound };

/// What one call runs.
enum StageBit : unsigned { kSample = 1, kPredict = 2, kScore = 4, kRank = 8 };

/// x <- a x + b v + noise eps.
struct SamplerRow {
    float a, b, noise;
};

/// One network: sizes, weights and what the condition kernels write for it.
struct Network {
    int layers, width, heads, head_size, mlp, patch, tokens;
    int first_size, second_size;  // features of a step come from two arrays, in this order
    int outputs;                  // of a token
    int padded_width, padded_head, padded_mlp;
    int condition_size;
    int rows;  // conditions that it is run with, of every robot: a sampler row each

    const float* token;            // (features, width)
    const float* token_bias;       // (width)
    const float* token_history;    // (width, condition) or null
    const float* positions;        // (tokens, width)
    const float* final_out;        // (outputs, width)
    const float* final_bias;       // (outputs)
    const std::uint8_t* weights;   // packed matrices of a layer after those of another
    const float* biases;           // of a layer after those of another
    const float* history;          // (width, condition)
    const float* history_bias;     // (width)
    const float* embed;            // (width, width)
    const float* embed_bias;       // (width)
    const float* modulation;       // (6 width layers + 2 width, width)
    const float* modulation_bias;  // as many
    const float* angles;           // (rows, width), or null where there are none

    float* embedded;     // (B, rows, width)
    float* modulations;  // (B, rows, 6 width layers + 2 width)
    float* offset;       // (B, width)
};

/// Candidates that share a sampler.
struct Group {
    int first, count;
    int first_tile, tiles;            // of a robot's tiles; the last may be empty
    int proposal_row, proposal_rows;  // of the proposal's rows
    int dynamics_row, dynamics_rows;
    float start_cos, start_sin;
    const float* start;  // (B, count, F, A) in environment units, or null for pure noise
};

/// Normalised <-> environment units, and bounds.
struct Units {
    const float *mean, *scale, *low, *high;  // (size)
};

/// Bytes from the start of a block's shared memory.
struct SharedLayout {
    int stream, operand, part, work, scratch, total;
    int part_stride;                    // elements
    int operand_stride, operand_panel;  // elements between rows, and between panels of 8 columns
    int work_stride, work_panel, work_columns;
    int scratch_bytes;  // of a warp
    int barriers, zeros;
};

/// A whole plan. Members are read by all blocks; trajectories and results are written.
struct PlanParams {
    int robots, candidates, horizon, state_size, action_size;
    int groups, tiles;  // tiles of a robot, of all groups: multiples of `sets`
    int tile_candidates;
    int sets, splits;  // tiles that a cluster takes side by side, and blocks that share one
    bool apart;        // blocks that share one are no cluster: they meet in global memory
    int members, terms;
    bool learned;
    unsigned stages;
    float reward_mean, reward_scale, value_mean, value_scale;

    SharedLayout shared;
    const Network* networks;  // proposal, dynamics, then the members of the objective
    const Group* group;       // (groups)
    const SamplerRow* proposal_rows;
    const SamplerRow* dynamics_rows;
    Units action_units, state_units;
    const float* discounts;      // gamma^0 .. gamma^F
    const float* log_discounts;  // their logarithms
    const float* term;           // (terms, kTermColumns)

    const std::uint64_t* seed;        // (1)
    const std::uint32_t* plan_index;  // (B)
    const std::uint32_t* robot;       // (B) numbers in the random stream
    const float* condition;           // (B, condition)

    float* x_actions;    // (B, N, F, A) normalised
    float* x_states;     // (B, N, F, S) normalised
    float* predictions;  // (members, B, N, F, 3) normalised
    float* actions;      // (B, N, F, A)
    float* states;       // (B, N, F, S)
    float* scores;       // (B, N)
    float* violations;
    float* tie_breaks;
    std::int64_t* best;  // (B)
    float* action;       // (B, A)
    unsigned* arrived;   // (B) blocks that are done; 0 before and after a plan
    // Of tiles whose blocks are apart, those of a robot after those of another:
    unsigned* met;           // how often blocks have met; 0 before a plan
    std::uint8_t* exchange;  // operands, then every block's part, as in shared memory
    int operand_bytes, part_bytes;
};

}  // namespace dmpc::cuda
