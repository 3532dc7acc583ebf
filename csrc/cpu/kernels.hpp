// The table of kernels of one instruction set, and the choice among the tables.
//
// Every source in this folder named *.inl is compiled once per instruction set, in its own
// namespace; each compilation fills one `Kernels`. Nothing here knows models, stages or files:
// pointers, sizes and strides only. Strides count elements. Buffers need no alignment, but 64 bytes
// is fastest.
//
// Padding rule: the columns of every matrix and the depth of every product are padded with zeros to
// a multiple of `Kernels::lanes`, so that no kernel has a tail in those directions. Rows are exact.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dmpc::cpu {

enum class InstructionSet { automatic, portable, avx2, avx512, avx512_bf16 };

/// Number type of the operands of the large matrix products; residuals are float32. With int8, a
/// norm leaves bytes for the product that follows it, other activations are bfloat16, and
/// `product_residual` quantises what it reads.
enum class Precision { float32, bfloat16, int8 };
inline constexpr int kPrecisions = 3;

/// c (rows, columns) from a (rows, depth) times packed weights, plus a bias; see the epilogues
/// below.
struct Product {
    int rows = 0;
    int depth = 0;    // padded
    int columns = 0;  // padded
    const void* a = nullptr;
    std::ptrdiff_t a_stride = 0;
    const void* weights = nullptr;           // from `pack`, possibly advanced to a depth inside
    std::ptrdiff_t weights_tile_stride = 0;  // bytes between tiles of columns
    bool far = false;                        // whether the weights come from beyond L2
    const float* bias = nullptr;             // (columns), or null for none
    void* c = nullptr;
    std::ptrdiff_t c_stride = 0;
    const float* gate = nullptr;       // residual: (columns)
    const float* positions = nullptr;  // tokens: (tokens, columns)
    std::ptrdiff_t positions_stride = 0;
    int tokens = 1;           // rows of one candidate
    void* scratch = nullptr;  // of product_residual: residual_scratch(rows, depth) bytes
};

/// out = layer_norm(x) * scale + shift, row by row, over the first `width` of `padded` columns.
struct Norm {
    int rows = 0;
    int width = 0;
    int padded = 0;
    const float* x = nullptr;
    std::ptrdiff_t x_stride = 0;
    const float* scale = nullptr;   // (padded); holds 1 + scale, 0 in the padding
    const float* shift = nullptr;   // (padded); 0 in the padding
    void* out = nullptr;            // normed_bytes(rows, padded)
    std::ptrdiff_t out_stride = 0;  // padded, where out is not of a plain type
};

/// Bidirectional attention inside each candidate; heads stand side by side as [q | k | v].
struct Attention {
    int candidates = 0;
    int tokens = 0;
    int heads = 0;
    int head_size = 0;          // padded; log2(e) and the softmax scale are folded into q
    const void* qkv = nullptr;  // operand type, (candidates x tokens, heads x 3 x head_size)
    std::ptrdiff_t qkv_stride = 0;
    void* out = nullptr;  // operand type, (candidates x tokens, heads x head_size)
    std::ptrdiff_t out_stride = 0;
    float* scratch = nullptr;  // attention_scratch(tokens, head_size) floats
};

/// Standard normals of one candidate from the random stream (Philox4x32-10 and Box-Muller).
struct Normals {
    std::uint64_t seed = 0;
    std::uint32_t candidate = 0;
    std::uint32_t plan_index = 0;
    std::uint32_t last_word = 0;  // robot << 16 | stage << 8 | step
    int count = 0;
    float* out = nullptr;
};

/// x <- a x + b v + noise eps over (rows, size); x and eps are dense, v has a row stride.
struct Update {
    int rows = 0;
    int size = 0;
    float a = 0, b = 0, noise = 0;
    float* x = nullptr;
    const float* velocity = nullptr;
    std::ptrdiff_t velocity_stride = 0;
    const float* eps = nullptr;  // null where noise is 0
};

/// Kernels that depend on the operand type.
struct OperandKernels {
    int element_bytes;  // of an activation, unless a norm leaves it
    std::size_t (*packed_bytes)(int depth, int columns);
    std::ptrdiff_t (*tile_stride)(int depth);          // bytes
    std::size_t (*normed_bytes)(int rows, int depth);  // of what a norm leaves
    std::size_t (*residual_scratch)(int rows, int depth);
    bool splits_depth;  // whether packed weights can be entered at a depth inside
    /// Bytes by which packed weights advance per unit of depth, within one tile of columns.
    std::ptrdiff_t (*depth_stride)();
    /// weight (columns, depth), row-major and already padded -> packed.
    void (*pack)(const float* weight, int depth, int columns, void* packed);
    // What a norm has left is the operand of all products but that of the residual.
    void (*product_store)(const Product&);     // c float32
    void (*product_operand)(const Product&);   // c operand type
    void (*product_gelu)(const Product&);      // c = gelu_tanh(...), operand type
    void (*product_residual)(const Product&);  // c += gate * (...), float32
    void (*product_tokens)(const Product&);    // c = ... + positions, float32
    void (*norm)(const Norm&);
    void (*attention)(const Attention&);
};

struct Kernels {
    InstructionSet instruction_set;
    const char* name;
    int lanes;  // float32 numbers per vector
    OperandKernels operand[kPrecisions];
    std::size_t (*attention_scratch)(int tokens, int head_size);  // floats
    void (*normals)(const Normals&);
    void (*update)(const Update&);
    void (*silu)(float* x, int count);  // count: any

    const OperandKernels& of(Precision precision) const {
        return operand[static_cast<int>(precision)];
    }
};

/// The table for an instruction set; null where this build or this machine lacks it. `automatic` is
/// the best there is and never null.
const Kernels* select_kernels(InstructionSet wanted);

/// Whether this machine multiplies bfloat16 in hardware with the given table.
bool has_native_bfloat16(const Kernels& kernels);

/// Makes this thread flush denormal numbers to zero until destroyed.
class FlushDenormals {
public:
    FlushDenormals();
    ~FlushDenormals();
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;

private:
    std::uint64_t saved_;
};

}  // namespace dmpc::cpu
