// The device of ../device.cuh on a host: every thread of a cluster is a fiber, run in random order
// between the points at which they meet. What hardware leaves undefined is made visible: shared
// memory starts as NaN, and a copy's destination is NaN until its group has been waited for.
// One cluster runs at a time, on the thread that launches.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#include "../params.hpp"

#define DMPC_DEVICE inline
#define DMPC_DEVICE_CALL inline

namespace dmpc::cuda {

/// The upper half of a float32.
struct bf16 {
    std::uint16_t bits;
};

namespace device {

int thread();
int block();
int blocks();
inline int lane() { return thread() % kLanes; }
inline int warp() { return thread() / kLanes; }

void sync_warp();
void sync_block();
void sync_cluster();

/// Checks that `own` lies in this block's shared memory, and that the peer has not ended.
void* peer_address(void* own, int rank);
template <class T>
T* peer(T* own, int rank) {
    return static_cast<T*>(peer_address(own, rank));
}

float shuffle(float value, int source);
inline float shuffle_xor(float value, int mask) { return shuffle(value, lane() ^ mask); }
inline float shuffle_up(float value, int distance) {
    return shuffle(value, lane() < distance ? lane() : lane() - distance);
}
inline float shuffle_from(float value, int source) { return shuffle(value, source); }

inline int uniform(int value) { return value; }

void copy_async(void* shared, const void* global);
void commit_copies();
void wait_copies_until(int pending);
template <int Pending>
void wait_copies() {
    wait_copies_until(Pending);
}

void load_tiles(std::uint32_t (&tiles)[4], const bf16* row);
void load_tiles_transposed(std::uint32_t (&tiles)[4], const bf16* row);
void multiply_tile(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                   std::uint32_t b1);
void multiply_tile_tf32(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                        std::uint32_t b1);
std::uint32_t round_tf32(float value);
std::uint32_t pack_bf16(float first, float second);

/// A barrier in shared memory, in the 8 bytes that the device's has.
struct Barrier {
    std::uint8_t mark, arrivals, left;  // mark: that it has been started
    std::uint8_t phase;                 // the parity of the one that runs
    std::int32_t bytes;                 // expected and not here yet
};
static_assert(sizeof(Barrier) == 8);
void start_barrier(Barrier* barrier, int arrivals);
inline void publish_barriers() {}
void arrive(Barrier* barrier);
void arrive_at_peer(Barrier* barrier, int rank);
void arrive_expecting(Barrier* barrier, int bytes);
void wait_barrier(Barrier* barrier, unsigned parity);
inline void wait_barrier_of_cluster(Barrier* barrier, unsigned parity) {
    wait_barrier(barrier, parity);
}
void copy_bulk(void* shared, const void* global, int bytes, Barrier* barrier);
void copy_bulk_to(unsigned ranks, void* shared, const void* global, int bytes, Barrier* barrier);
inline void fence_async() {}

/// Bytes from the start of this block's shared memory; elsewhere is an error.
std::uint32_t shared_address(const void* pointer);
/// Of registers that products add to, which compilers must not move.
template <int Size>
void hold(float (&)[Size]) {}
void fence_products();
void commit_products();
void wait_products_until(int pending);
template <int Pending>
void wait_products() {
    wait_products_until(Pending);
}
void issue_product(float* sums, int columns, std::uint64_t left, std::uint64_t right);
template <int Columns>
void multiply_group(float (&sums)[Columns / 2], std::uint64_t left, std::uint64_t right) {
    issue_product(sums, Columns, left, right);
}
void store_tiles_transposed(bf16* row, const std::uint32_t (&tiles)[4]);

inline void fence() {}
unsigned add_atomically(unsigned* counter, unsigned value);
void wait_counter(const unsigned* counter, unsigned target);
template <class T>
T load_fresh(const T* pointer) {
    return *pointer;
}

inline float cos_pi(float x) { return static_cast<float>(std::cos(3.14159265358979323846 * x)); }
inline float sin_pi(float x) { return static_cast<float>(std::sin(3.14159265358979323846 * x)); }
inline std::uint32_t high_product(std::uint32_t a, std::uint32_t b) {
    return static_cast<std::uint32_t>(std::uint64_t{a} * b >> 32);
}

}  // namespace device

namespace emulated {

/// Order of the fibers in what is launched from now on.
void set_seed(std::uint64_t seed);

/// Runs `kernel(shared memory)` in every thread of `blocks` blocks. Throws std::logic_error where
/// threads wait for others that have ended, or where a block wrote beyond its shared memory. apart:
/// the blocks of a `cluster` run together but are none: they must not meet, or see their peers.
void launch(int blocks, int cluster, bool apart, int shared_bytes,
            const std::function<void(std::uint8_t*)>& kernel);

}  // namespace emulated
}  // namespace dmpc::cuda
