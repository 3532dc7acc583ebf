// The few things that a kernel asks of the machine, under names that the host's emulation has, too:
// kernels are written against these alone, and compile as plain C++ for tests.
#pragma once

#if !defined(__CUDACC__)
#include "emulated/device.hpp"
#else

#include <cuda_bf16.h>

#include <cstdint>

#include "params.hpp"

#define DMPC_DEVICE __device__ __forceinline__
/// For what is called from several places and large.
#define DMPC_DEVICE_CALL __device__ __noinline__

namespace dmpc::cuda {

using bf16 = __nv_bfloat16;

namespace device {

DMPC_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
DMPC_DEVICE int lane() { return thread() % kLanes; }
DMPC_DEVICE int warp() { return thread() / kLanes; }
DMPC_DEVICE int block() { return static_cast<int>(blockIdx.x); }
DMPC_DEVICE int blocks() { return static_cast<int>(gridDim.x); }

DMPC_DEVICE void sync_warp() { __syncwarp(); }
DMPC_DEVICE void sync_block() { __syncthreads(); }

/// Meets all threads of the cluster; what they wrote, to any memory, is seen by all afterwards.
DMPC_DEVICE void sync_cluster() {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "barrier.cluster.arrive.release.aligned;\n"
        "barrier.cluster.wait.acquire.aligned;" ::
            : "memory");
#else
    __syncthreads();
#endif
}

/// Where block `rank` of the cluster holds what this block holds at `own`, in shared memory.
template <class T>
DMPC_DEVICE T* peer(T* own, int rank) {
#if __CUDA_ARCH__ >= 900
    std::uint64_t address;
    asm("mapa.u64 %0, %1, %2;" : "=l"(address) : "l"(own), "r"(rank));
    return reinterpret_cast<T*>(address);
#else
    return rank == 0 ? own : nullptr;  // clusters are of one block
#endif
}

DMPC_DEVICE float shuffle_xor(float value, int mask) {
    return __shfl_xor_sync(0xFFFFFFFFu, value, mask);
}
/// The value of the lane that is `distance` below; unchanged where there is none.
DMPC_DEVICE float shuffle_up(float value, int distance) {
    return __shfl_up_sync(0xFFFFFFFFu, value, static_cast<unsigned>(distance));
}
DMPC_DEVICE float shuffle_from(float value, int lane) {
    return __shfl_sync(0xFFFFFFFFu, value, lane);
}

/// The same in all lanes: says so to the compiler.
DMPC_DEVICE int uniform(int value) { return __shfl_sync(0xFFFFFFFFu, value, 0); }

DMPC_DEVICE std::uint32_t shared_address(const void* pointer) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// 16 bytes on their way from global to shared memory, past L1.
DMPC_DEVICE void copy_async(void* shared, const void* global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)),
                 "l"(global)
                 : "memory");
}
/// Closes the group of this thread's copies; may be empty.
DMPC_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Until at most `Pending` of this thread's groups are on their way; others may not see them yet.
template <int Pending>
DMPC_DEVICE void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

/// Four 8 x 8 tiles of bf16; lane i names row i % 8 of tile i / 8, and receives of each tile
/// elements 2 (lane % 4) and the next of row lane / 4.
DMPC_DEVICE void load_tiles(std::uint32_t (&tiles)[4], const bf16* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
                 : "r"(shared_address(row))
                 : "memory");
}
/// The same of tiles that are transposed on the way.
DMPC_DEVICE void load_tiles_transposed(std::uint32_t (&tiles)[4], const bf16* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/// sums += a b on tensor cores: 16 x 16 times 16 x 8, bf16 with float32 sums. With g = lane / 4 and
/// t = lane % 4, a holds rows g and g + 8 in turns, of columns 2 t, 2 t + 1 and then eight further;
/// b rows 2 t, 2 t + 1 and then eight further, of column g; sums rows g, then g + 8, of columns
/// 2 t, 2 t + 1.
DMPC_DEVICE void multiply_tile(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                               std::uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// The same with tf32, 16 x 8 times 8 x 8: a holds rows g and g + 8 in turns, of column t and then
/// of t + 4; b rows t and t + 4 of column g.
DMPC_DEVICE void multiply_tile_tf32(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// To nearest, ties away from zero.
DMPC_DEVICE std::uint32_t round_tf32(float value) {
    std::uint32_t rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
    return rounded;
}

/// Two numbers rounded to bf16, the first in the lower half.
DMPC_DEVICE std::uint32_t pack_bf16(float first, float second) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
}

/// What this thread has written is seen by whoever sees what it writes next.
DMPC_DEVICE void fence() { __threadfence(); }
DMPC_DEVICE unsigned add_atomically(unsigned* counter, unsigned value) {
    return atomicAdd(counter, value);
}

/// Until `counter`, in global memory, has come to `target`. Only for blocks that run together.
DMPC_DEVICE void wait_counter(const unsigned* counter, unsigned target) {
    unsigned value;
    do {
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
    } while (value < target);
}

/// Of global memory that blocks of other clusters have written.
template <class T>
DMPC_DEVICE T load_fresh(const T* pointer) {
    return __ldcg(pointer);
}

DMPC_DEVICE float cos_pi(float x) { return cospif(x); }
DMPC_DEVICE float sin_pi(float x) { return sinpif(x); }
DMPC_DEVICE std::uint32_t high_product(std::uint32_t a, std::uint32_t b) { return __umulhi(a, b); }

}  // namespace device
}  // namespace dmpc::cuda

#include "device_sm90.cuh"

#endif
