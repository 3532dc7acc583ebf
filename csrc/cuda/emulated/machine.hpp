// What the emulation keeps of a cluster that runs: blocks, warps, threads, and where they wait.
#pragma once

#include <array>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "device.hpp"
#include "fiber.hpp"

namespace dmpc::cuda::emulated {

inline constexpr int kGuardBytes = 1024;
inline constexpr std::uint8_t kPoison = 0xFF;  // NaN as float32 and as bf16
inline constexpr std::uint8_t kGuard = 0xA5;

struct Thread;

/// Where `size` threads wait for one another.
struct Barrier {
    int size = 0;
    std::vector<Thread*> waiting;
};

struct Copy {
    std::uint8_t* to;
    const std::uint8_t* from;
};

/// A bulk copy that has been ordered.
struct BulkCopy {
    std::uint8_t* to;
    const std::uint8_t* from;
    std::size_t bytes;
    device::Barrier* barrier;
};

/// A product of a warpgroup, as one of its threads has issued it.
struct GroupProduct {
    float* sums;
    int columns;
    std::uint64_t left, right;
};

/// What the lanes of a warp show one another. A lane can be one meeting ahead of another, hence
/// two.
struct Exchange {
    std::array<std::array<std::uint32_t, 6>, kLanes> in;
    std::array<std::array<float, 4>, kLanes> sums;
    std::array<const bf16*, kLanes> rows;
};

struct Block;

struct Warp {
    Barrier barrier;
    Exchange exchange[2];
};

struct Thread {
    Fiber fiber;
    Block* block = nullptr;
    Warp* warp = nullptr;
    int index = 0, turn = 0;
    bool done = false;
    std::deque<std::vector<Copy>> copies;                // the last group is open
    std::deque<std::vector<GroupProduct>> products{{}};  // the same; done ones are taken out
    std::map<float*, std::vector<float>> sums;           // what the registers will hold
    bool fenced = false;  // since products last left their sums in registers
};

struct Block {
    int index = 0, rank = 0;
    int running = 0;  // threads that have not ended
    std::vector<std::uint8_t> shared;
    Barrier barrier;
    std::array<Warp, kWarps> warps;

    std::uint8_t* base() { return shared.data() + kGuardBytes; }
    std::size_t bytes() const { return shared.size() - 2 * kGuardBytes; }
};

struct Machine {
    std::mt19937_64 random{0};
    std::vector<std::unique_ptr<Thread>> threads;
    std::vector<std::unique_ptr<Block>> blocks;
    std::vector<Thread*> runnable;
    std::vector<BulkCopy> bulk;  // on their way
    std::map<device::Barrier*, std::vector<Thread*>> at_barriers;
    Barrier cluster;
    Thread* current = nullptr;
    int grid = 0;
    bool apart = false;
    std::map<const unsigned*, std::vector<std::pair<unsigned, Thread*>>> at_counters;
    std::exception_ptr failure;
    const std::function<void(std::uint8_t*)>* kernel = nullptr;
};

Machine& machine();

/// Waits at `barrier`; the last to come does `act` before any goes on.
template <class Act>
void meet(Barrier& barrier, Act act) {
    Machine& m = machine();
    if (static_cast<int>(barrier.waiting.size()) + 1 == barrier.size) {
        act();
        m.runnable.insert(m.runnable.end(), barrier.waiting.begin(), barrier.waiting.end());
        barrier.waiting.clear();
        // The last has no head start either.
        m.runnable.push_back(m.current);
    } else {
        barrier.waiting.push_back(m.current);
    }
    m.current->fiber.give_way();
}

template <class Act>
Exchange& exchange(Act fill, void (*act)(Exchange&)) {
    Thread& own = *machine().current;
    Exchange& place = own.warp->exchange[own.turn ^= 1];
    fill(place);
    meet(own.warp->barrier, [&] {
        if (act != nullptr) act(place);
    });
    return place;
}

}  // namespace dmpc::cuda::emulated
