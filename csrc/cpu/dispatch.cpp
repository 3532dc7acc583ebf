// Chooses a table of kernels by what the processor and the operating system support.
#include "kernels.hpp"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace dmpc::cpu {

namespace portable {
const Kernels* table();
}
#if defined(__x86_64__)
namespace avx2 {
const Kernels* table();
}
namespace avx512 {
const Kernels* table();
}
namespace avx512_bf16 {
const Kernels* table();
}
#endif

namespace {

#if defined(__x86_64__)
bool supports(InstructionSet wanted) {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    [[maybe_unused]] const bool avx512 =
        avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    switch (wanted) {
        case InstructionSet::portable: return true;
        case InstructionSet::avx2: return avx2;
#if defined(DMPC_AVX512_EMULATED)
        case InstructionSet::avx512:
        case InstructionSet::avx512_bf16: return avx2;
#else
        case InstructionSet::avx512: return avx512;
        case InstructionSet::avx512_bf16:
            return avx512 && __builtin_cpu_supports("avx512bf16") &&
                   __builtin_cpu_supports("avx512vnni");
#endif
        case InstructionSet::automatic: return false;
    }
    return false;
}
#endif

}  // namespace

const Kernels* select_kernels(InstructionSet wanted) {
#if defined(__x86_64__)
    if (wanted == InstructionSet::automatic) {
        constexpr InstructionSet best_first[] = {InstructionSet::avx512_bf16,
                                                 InstructionSet::avx512, InstructionSet::avx2};
        for (const InstructionSet set : best_first) {
            if (supports(set)) return select_kernels(set);
        }
        return portable::table();
    }
    if (!supports(wanted)) return nullptr;
    switch (wanted) {
        case InstructionSet::avx2: return avx2::table();
        case InstructionSet::avx512: return avx512::table();
        case InstructionSet::avx512_bf16: return avx512_bf16::table();
        default: return portable::table();
    }
#else
    const bool portable = wanted == InstructionSet::automatic || wanted == InstructionSet::portable;
    return portable ? portable::table() : nullptr;
#endif
}

bool has_native_bfloat16(const Kernels& kernels) {
    return kernels.instruction_set == InstructionSet::avx512_bf16;
}

#if defined(__x86_64__)
namespace {
constexpr unsigned kFlushAndZero = 0x8040;  // MXCSR: flush results, treat inputs as zero
}
FlushDenormals::FlushDenormals() : saved_(_mm_getcsr()) {
    _mm_setcsr(static_cast<unsigned>(saved_) | kFlushAndZero);
}
FlushDenormals::~FlushDenormals() { _mm_setcsr(static_cast<unsigned>(saved_)); }
#elif defined(__aarch64__)
namespace {
constexpr std::uint64_t kFlush = std::uint64_t{1} << 24;  // FPCR.FZ
}
FlushDenormals::FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" ::"r"(saved_ | kFlush));
}
FlushDenormals::~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }
#else
FlushDenormals::FlushDenormals() : saved_(0) {}
FlushDenormals::~FlushDenormals() = default;
#endif

}  // namespace dmpc::cpu
