// What sm_90a has beyond device.cuh: barriers with bulk copies, products by warpgroups. Elsewhere
// kernels that use it are not built, and these trap.
#pragma once

namespace dmpc::cuda::device {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define DMPC_SM90(...) __VA_ARGS__
#else
#define DMPC_SM90(...) __trap()
#endif

/// A barrier in shared memory that counts arrivals and bytes.
using Barrier = std::uint64_t;

DMPC_DEVICE void start_barrier(Barrier* barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(arrivals)
                 : "memory");
}
/// Bulk copies see barriers that this thread has started.
DMPC_DEVICE void publish_barriers() {
    DMPC_SM90(
        asm volatile("fence.mbarrier_init.release.cluster;\n"
                     "fence.proxy.async.shared::cta;" :: : "memory"));
}
DMPC_DEVICE void arrive(Barrier* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
                 : "memory");
}
/// Arrives at the barrier that block `rank` of the cluster has where this one has `barrier`.
DMPC_DEVICE void arrive_at_peer(Barrier* barrier, int rank) {
    DMPC_SM90(
        asm volatile("{\n"
                     ".reg .b32 there;\n"
                     "mapa.shared::cluster.u32 there, %0, %1;\n"
                     "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n"
                     "}" ::"r"(shared_address(barrier)),
                     "r"(rank) : "memory"));
}
/// Arrives; the phase ends no sooner than `bytes` more have come.
DMPC_DEVICE void arrive_expecting(Barrier* barrier, int bytes) {
    DMPC_SM90(asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
        "r"(bytes) : "memory"));
}
/// Until the phase of this parity has ended.
DMPC_DEVICE void wait_barrier(Barrier* barrier, unsigned parity) {
    DMPC_SM90(
        asm volatile("{\n"
                     ".reg .pred done;\n"
                     "again:\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                     "@!done bra again;\n"
                     "}" ::"r"(shared_address(barrier)),
                     "r"(parity) : "memory"));
}

/// The same of a phase that other blocks of the cluster have arrived at.
DMPC_DEVICE void wait_barrier_of_cluster(Barrier* barrier, unsigned parity) {
    DMPC_SM90(
        asm volatile("{\n"
                     ".reg .pred done;\n"
                     "again:\n"
                     "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
                     "@!done bra again;\n"
                     "}" ::"r"(shared_address(barrier)),
                     "r"(parity) : "memory"));
}

/// `bytes` (a multiple of 16) on their way from global to shared memory; `barrier` counts them.
DMPC_DEVICE void copy_bulk(void* shared, const void* global, int bytes, Barrier* barrier) {
    DMPC_SM90(
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                     "[%0], [%1], %2, [%3];" ::"r"(shared_address(shared)),
                     "l"(global), "r"(bytes), "r"(shared_address(barrier)) : "memory"));
}

/// The same to all blocks of the cluster whose bits are set in `ranks`, and to the barrier of each.
DMPC_DEVICE void copy_bulk_to(unsigned ranks, void* shared, const void* global, int bytes,
                              Barrier* barrier) {
    DMPC_SM90(asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
        "[%0], [%1], %2, [%3], %4;" ::"r"(shared_address(shared)),
        "l"(global), "r"(bytes), "r"(shared_address(barrier)),
        "h"(static_cast<std::uint16_t>(ranks)) : "memory"));
}

/// Orders this thread's accesses to shared memory before those of copies and products to come.
DMPC_DEVICE void fence_async() { DMPC_SM90(asm volatile("fence.proxy.async;" :: : "memory")); }

/// Of registers that products add to, which compilers must not move.
template <int Size>
DMPC_DEVICE void hold(float (&registers)[Size]) {
#pragma unroll
    for (int i = 0; i < Size; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}

/// Registers that products are about to add to have been written.
DMPC_DEVICE void fence_products() {
    DMPC_SM90(asm volatile("wgmma.fence.sync.aligned;" :: : "memory"));
}
DMPC_DEVICE void commit_products() {
    DMPC_SM90(asm volatile("wgmma.commit_group.sync.aligned;" :: : "memory"));
}
/// Until at most `Pending` groups of products are under way; sums are theirs until then.
template <int Pending>
DMPC_DEVICE void wait_products() {
    DMPC_SM90(asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory"));
}

/// Four 8 x 8 tiles of bf16 to shared memory, transposed on the way; lane i names row i % 8 of tile
/// i / 8 and gives elements 2 (lane % 4) and the next of column lane / 4 of each.
DMPC_DEVICE void store_tiles_transposed(bf16* row, const std::uint32_t (&tiles)[4]) {
    DMPC_SM90(
        asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                         shared_address(row)),
                     "r"(tiles[0]), "r"(tiles[1]), "r"(tiles[2]), "r"(tiles[3]) : "memory"));
}

#define DMPC_8(i)                                                                              \
    "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]), "+f"(sums[i + 4]), \
        "+f"(sums[i + 5]), "+f"(sums[i + 6]), "+f"(sums[i + 7])
#define DMPC_LIST(...) __VA_ARGS__
#define DMPC_16(i) DMPC_8(i), DMPC_8(i + 8)
#define DMPC_32(i) DMPC_16(i), DMPC_16(i + 16)
// A product of 64 x 16 by 16 x N: registers of sums, then of descriptors, and that it adds.
#define DMPC_WGMMA(columns, registers, left_at, right_at, add_at, sums_of)                   \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " add_at                              \
                 ", 0;\n"                                                                    \
                 "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32.bf16.bf16 {" registers \
                 "}, " left_at ", " right_at ", add, 1, 1, 0, 0;\n}"                         \
                 : sums_of                                                                   \
                 : "l"(left), "l"(right), "n"(1))

/// sums += left right', 64 rows and `Columns` columns, on their way; both operands of 16 inner
/// dimensions, by their descriptors. Of a warpgroup's 64 rows a warp has 16; with g = lane / 4 and
/// t = lane % 4, a lane has of each 8 columns rows g, then g + 8, of columns 2 t and 2 t + 1.
template <int Columns>
DMPC_DEVICE void multiply_group(float (&sums)[Columns / 2], std::uint64_t left,
                                std::uint64_t right) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    static_assert(Columns == 16 || Columns == 32 || Columns == 64 || Columns == 128);
    if constexpr (Columns == 16) {
        DMPC_WGMMA("16", "%0, %1, %2, %3, %4, %5, %6, %7", "%8", "%9", "%10", DMPC_LIST(DMPC_8(0)));
    } else if constexpr (Columns == 32) {
        DMPC_WGMMA("32", "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15",
                   "%16", "%17", "%18", DMPC_LIST(DMPC_16(0)));
    } else if constexpr (Columns == 64) {
        DMPC_WGMMA("64",
                   "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                   "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31",
                   "%32", "%33", "%34", DMPC_LIST(DMPC_32(0)));
    } else if constexpr (Columns == 128) {
        DMPC_WGMMA(
            "128",
            "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
            "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
            "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
            "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63",
            "%64", "%65", "%66", DMPC_LIST(DMPC_32(0), DMPC_32(32)));
    }
#else
    __trap();
#endif
}

#undef DMPC_WGMMA
#undef DMPC_32
#undef DMPC_16
#undef DMPC_8
#undef DMPC_LIST
#undef DMPC_SM90

}  // namespace dmpc::cuda::device
