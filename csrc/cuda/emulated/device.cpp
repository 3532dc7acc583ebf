#include "device.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "machine.hpp"
#include "transfers.hpp"

namespace dmpc::cuda {
namespace emulated {

Machine& machine() {
    static Machine only;
    return only;
}

namespace {

void finish(std::vector<Copy>& group) {
    for (const Copy& copy : group) std::memcpy(copy.to, copy.from, 16);
    group.clear();
}

float from_bf16(std::uint32_t bits) {
    const std::uint32_t word = bits << 16;
    float value;
    std::memcpy(&value, &word, sizeof value);
    return value;
}

/// The whole product of a warp, by the documented layout of its fragments.
void multiply(Exchange& place) {
    float a[16][16], b[16][8];
    for (int lane = 0; lane < kLanes; ++lane) {
        const int g = lane / 4, t = lane % 4;
        const auto& in = place.in[static_cast<std::size_t>(lane)];
        for (int half = 0; half < 2; ++half) {
            const int shift = 16 * half, column = 2 * t + half;
            a[g][column] = from_bf16(in[0] >> shift & 0xFFFF);
            a[g + 8][column] = from_bf16(in[1] >> shift & 0xFFFF);
            a[g][column + 8] = from_bf16(in[2] >> shift & 0xFFFF);
            a[g + 8][column + 8] = from_bf16(in[3] >> shift & 0xFFFF);
            b[column][g] = from_bf16(in[4] >> shift & 0xFFFF);
            b[column + 8][g] = from_bf16(in[5] >> shift & 0xFFFF);
        }
    }
    float c[16][8];
    for (int row = 0; row < 16; ++row) {
        for (int column = 0; column < 8; ++column) c[row][column] = 0;
        for (int k = 0; k < 16; ++k) {
            for (int column = 0; column < 8; ++column) c[row][column] += a[row][k] * b[k][column];
        }
    }
    for (int lane = 0; lane < kLanes; ++lane) {
        const int g = lane / 4, t = lane % 4;
        auto& sums = place.sums[static_cast<std::size_t>(lane)];
        sums[0] += c[g][2 * t];
        sums[1] += c[g][2 * t + 1];
        sums[2] += c[g + 8][2 * t];
        sums[3] += c[g + 8][2 * t + 1];
    }
}

float from_tf32(std::uint32_t word) {
    if ((word & 0x1FFF) != 0 && (word & 0x7FFFFFFF) < 0x7F800000) {
        throw std::logic_error("an operand of a product in tf32 has not been rounded");
    }
    float value;
    std::memcpy(&value, &word, sizeof value);
    return value;
}

void multiply_tf32(Exchange& place) {
    float a[16][8], b[8][8];
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
        const std::size_t g = lane / 4, t = lane % 4;
        const auto& in = place.in[lane];
        for (std::size_t i = 0; i < 4; ++i) a[g + i % 2 * 8][t + i / 2 * 4] = from_tf32(in[i]);
        for (std::size_t i = 0; i < 2; ++i) b[t + i * 4][g] = from_tf32(in[4 + i]);
    }
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
        const std::size_t g = lane / 4, t = lane % 4;
        for (std::size_t i = 0; i < 4; ++i) {
            float sum = 0;
            for (std::size_t k = 0; k < 8; ++k) sum += a[g + i / 2 * 8][k] * b[k][2 * t + i % 2];
            place.sums[lane][i] += sum;
        }
    }
}

/// All lanes' tiles at once: when a lane goes on, what others were to read may be written again.
template <bool Transposed>
void load_all(Exchange& place) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
        const std::size_t g = lane / 4, t = lane % 4;
        for (std::size_t tile = 0; tile < 4; ++tile) {
            const bf16* const* rows = place.rows.data() + 8 * tile;
            const bf16 first = Transposed ? rows[2 * t][g] : rows[g][2 * t];
            const bf16 second = Transposed ? rows[2 * t + 1][g] : rows[g][2 * t + 1];
            place.in[lane][tile] = first.bits | std::uint32_t{second.bits} << 16;
        }
    }
}

void load(std::uint32_t (&tiles)[4], const bf16* row, void (*act)(Exchange&)) {
    const auto lane = static_cast<std::size_t>(machine().current->index % kLanes);
    if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) {
        throw std::logic_error("rows of tiles must be aligned to 16 bytes");
    }
    const Exchange& place = exchange([&](Exchange& e) { e.rows[lane] = row; }, act);
    std::copy_n(place.in[lane].begin(), 4, tiles);
}

[[noreturn]] void run_thread(void* argument) {
    Thread& own = *static_cast<Thread*>(argument);
    try {
        (*machine().kernel)(own.block->base());
    } catch (...) {
        machine().failure = std::current_exception();
    }
    own.done = true;
    --own.block->running;
    for (;;) own.fiber.give_way();
}

void check_guards(const Block& block) {
    const auto intact = [](std::uint8_t byte) { return byte == kGuard; };
    const auto begin = block.shared.begin(), end = block.shared.end();
    if (!std::all_of(begin, begin + kGuardBytes, intact) ||
        !std::all_of(end - kGuardBytes, end, intact)) {
        throw std::logic_error("block " + std::to_string(block.index) +
                               " wrote beyond its shared memory");
    }
}

void prepare(Machine& m, int first, int cluster, int shared_bytes) {
    m.cluster = {cluster * kThreads, {}};
    m.runnable.clear();
    m.bulk.clear();
    m.at_barriers.clear();
    m.at_counters.clear();
    while (static_cast<int>(m.blocks.size()) < cluster) {
        m.blocks.push_back(std::make_unique<Block>());
    }
    while (static_cast<int>(m.threads.size()) < cluster * kThreads) {
        m.threads.push_back(std::make_unique<Thread>());
    }
    for (int rank = 0; rank < cluster; ++rank) {
        Block& block = *m.blocks[static_cast<std::size_t>(rank)];
        block.index = first + rank;
        block.rank = rank;
        block.running = kThreads;
        block.shared.assign(static_cast<std::size_t>(shared_bytes) + 2 * kGuardBytes, kGuard);
        std::fill_n(block.base(), shared_bytes, kPoison);
        block.barrier = {kThreads, {}};
        for (Warp& warp : block.warps) warp.barrier = {kLanes, {}};
        for (int i = 0; i < kThreads; ++i) {
            Thread& thread = *m.threads[static_cast<std::size_t>(rank * kThreads + i)];
            thread.block = &block;
            thread.warp = &block.warps[static_cast<std::size_t>(i / kLanes)];
            thread.index = i;
            thread.turn = 0;
            thread.done = false;
            thread.copies.assign(1, {});
            thread.products.assign(1, {});
            thread.sums.clear();
            thread.fenced = false;
            thread.fiber.start(run_thread, &thread);
            m.runnable.push_back(&thread);
        }
    }
}

void run_cluster(Machine& m, int first, int cluster, int shared_bytes) {
    prepare(m, first, cluster, shared_bytes);
    int left = cluster * kThreads;
    while (left > 0) {
        let_copies_arrive(m);
        if (m.runnable.empty()) {
            throw std::logic_error(std::to_string(left) +
                                   " threads wait for others that never come");
        }
        const std::size_t chosen = m.random() % m.runnable.size();
        std::swap(m.runnable[chosen], m.runnable.back());
        m.current = m.runnable.back();
        m.runnable.pop_back();
        m.current->fiber.resume();
        if (m.failure) std::rethrow_exception(std::exchange(m.failure, nullptr));
        left -= m.current->done ? 1 : 0;
    }
    if (!m.bulk.empty()) throw std::logic_error("a block has ended before its bulk copies");
    for (int rank = 0; rank < cluster; ++rank) {
        check_guards(*m.blocks[static_cast<std::size_t>(rank)]);
    }
}

}  // namespace

void set_seed(std::uint64_t seed) { machine().random.seed(seed); }

void launch(int blocks, int cluster, bool apart, int shared_bytes,
            const std::function<void(std::uint8_t*)>& kernel) {
    Machine& m = machine();
    m.grid = blocks;
    m.apart = apart;
    m.kernel = &kernel;
    std::vector<int> order;
    for (int first = 0; first < blocks; first += cluster) order.push_back(first);
    std::shuffle(order.begin(), order.end(), m.random);
    for (const int first : order) run_cluster(m, first, cluster, shared_bytes);
}

}  // namespace emulated

namespace device {

using namespace emulated;

int thread() { return machine().current->index; }
int block() { return machine().current->block->index; }
int blocks() { return machine().grid; }

void sync_warp() {
    meet(machine().current->warp->barrier, [] {});
}
void sync_block() {
    meet(machine().current->block->barrier, [] {});
}
void sync_cluster() {
    if (machine().apart) throw std::logic_error("blocks that are apart meet as a cluster");
    meet(machine().cluster, [] {});
}

void* peer_address(void* own, int rank) {
    Machine& m = machine();
    Block& block = *m.current->block;
    const auto offset = static_cast<std::uint8_t*>(own) - block.base();
    if (offset < 0 || static_cast<std::size_t>(offset) >= block.bytes() ||
        rank * kThreads >= m.cluster.size || (m.apart && rank != block.rank)) {
        throw std::logic_error("an address of a peer lies outside of shared memory or cluster");
    }
    Block& other = *m.blocks[static_cast<std::size_t>(rank)];
    if (other.running < kThreads) {
        throw std::logic_error("the shared memory of a peer that has ended");
    }
    return other.base() + offset;
}

unsigned add_atomically(unsigned* counter, unsigned value) {
    Machine& m = machine();
    const unsigned before = *counter;
    *counter += value;
    auto& waiting = m.at_counters[counter];
    for (std::size_t i = waiting.size(); i-- > 0;) {
        if (*counter < waiting[i].first) continue;
        m.runnable.push_back(waiting[i].second);
        waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(i));
    }
    return before;
}

void wait_counter(const unsigned* counter, unsigned target) {
    Machine& m = machine();
    if (*counter >= target) return;
    m.at_counters[counter].emplace_back(target, m.current);
    m.current->fiber.give_way();
}

float shuffle(float value, int source) {
    const auto lane = static_cast<std::size_t>(machine().current->index % kLanes);
    const Exchange& place = exchange([&](Exchange& e) { e.sums[lane][0] = value; }, nullptr);
    return place.sums[static_cast<std::size_t>(source)][0];
}

void copy_async(void* shared, const void* global) {
    Thread& own = *machine().current;
    auto* to = static_cast<std::uint8_t*>(shared);
    const auto offset = to - own.block->base();
    if (offset < 0 || static_cast<std::size_t>(offset) + 16 > own.block->bytes() ||
        offset % 16 != 0 || reinterpret_cast<std::uintptr_t>(global) % 16 != 0) {
        throw std::logic_error("a copy of 16 bytes is not aligned or outside of shared memory");
    }
    std::memset(to, kPoison, 16);
    own.copies.back().push_back({to, static_cast<const std::uint8_t*>(global)});
}

void commit_copies() { machine().current->copies.emplace_back(); }

void wait_copies_until(int pending) {
    auto& copies = machine().current->copies;
    while (static_cast<int>(copies.size()) - 1 > pending) {
        finish(copies.front());
        copies.pop_front();
    }
}

void load_tiles(std::uint32_t (&tiles)[4], const bf16* row) { load(tiles, row, load_all<false>); }
void load_tiles_transposed(std::uint32_t (&tiles)[4], const bf16* row) {
    load(tiles, row, load_all<true>);
}

namespace {

void multiply_together(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                       std::uint32_t b1, void (*act)(Exchange&)) {
    const auto lane = static_cast<std::size_t>(machine().current->index % kLanes);
    const Exchange& place = exchange(
        [&](Exchange& e) {
            e.in[lane] = {a[0], a[1], a[2], a[3], b0, b1};
            std::copy_n(sums, 4, e.sums[lane].begin());
        },
        act);
    std::copy_n(place.sums[lane].begin(), 4, sums);
}

}  // namespace

void multiply_tile(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                   std::uint32_t b1) {
    multiply_together(sums, a, b0, b1, multiply);
}
void multiply_tile_tf32(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                        std::uint32_t b1) {
    multiply_together(sums, a, b0, b1, multiply_tf32);
}

std::uint32_t round_tf32(float value) {
    std::uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    return std::isfinite(value) ? (word + 0x1000) & 0xFFFFE000 : word;
}

std::uint32_t pack_bf16(float first, float second) {
    const auto round = [](float value) {
        std::uint32_t word;
        std::memcpy(&word, &value, sizeof word);
        if (std::isnan(value)) return std::uint32_t{0x7FFF};
        // To nearest, ties to even.
        return (word + 0x7FFF + (word >> 16 & 1)) >> 16;
    };
    return round(first) | round(second) << 16;
}

}  // namespace device
}  // namespace dmpc::cuda
