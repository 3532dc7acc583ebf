#include "transfers.hpp"

#include <cstring>
#include <stdexcept>
#include <utility>

namespace dmpc::cuda {
namespace emulated {
namespace {

constexpr std::uint8_t kMark = 0x5B;

/// Ends the phase once all have arrived, bytes included; who waits for it goes on.
void end_phase(device::Barrier* barrier) {
    if (barrier->left > 0 || barrier->bytes != 0) return;
    barrier->phase ^= 1;
    barrier->left = barrier->arrivals;
    Machine& m = machine();
    for (Thread* thread : std::exchange(m.at_barriers[barrier], {})) m.runnable.push_back(thread);
}

device::Barrier& started(device::Barrier* barrier) {
    if (reinterpret_cast<std::uintptr_t>(barrier) % 8 != 0 || barrier->mark != kMark) {
        throw std::logic_error("a barrier in shared memory has not been started");
    }
    return *barrier;
}

void arrive_at(device::Barrier* barrier, int bytes) {
    if (started(barrier).left == 0) throw std::logic_error("a barrier has one arrival too many");
    barrier->bytes += bytes;
    --barrier->left;
    end_phase(barrier);
}

}  // namespace

void let_copies_arrive(Machine& m) {
    while (!m.bulk.empty() && (m.runnable.empty() || m.random() % 16 == 0)) {
        std::swap(m.bulk[m.random() % m.bulk.size()], m.bulk.back());
        const BulkCopy copy = m.bulk.back();
        m.bulk.pop_back();
        std::memcpy(copy.to, copy.from, copy.bytes);
        copy.barrier->bytes -= static_cast<std::int32_t>(copy.bytes);
        end_phase(copy.barrier);
    }
}

}  // namespace emulated

namespace device {

using namespace emulated;

void start_barrier(Barrier* barrier, int arrivals) {
    shared_address(barrier);
    const auto count = static_cast<std::uint8_t>(arrivals);
    *barrier = {kMark, count, count, 0, 0};
}

void arrive(Barrier* barrier) { arrive_at(barrier, 0); }
void arrive_at_peer(Barrier* barrier, int rank) {
    arrive_at(static_cast<Barrier*>(peer_address(barrier, rank)), 0);
}
void arrive_expecting(Barrier* barrier, int bytes) { arrive_at(barrier, bytes); }

void wait_barrier(Barrier* barrier, unsigned parity) {
    Machine& m = machine();
    // The phase of the other parity is the one that runs as soon as this one has ended.
    while (started(barrier).phase == parity) {
        m.at_barriers[barrier].push_back(m.current);
        m.current->fiber.give_way();
    }
}

void copy_bulk(void* shared, const void* global, int bytes, Barrier* barrier) {
    copy_bulk_to(1u << machine().current->block->rank, shared, global, bytes, barrier);
}

void copy_bulk_to(unsigned ranks, void* shared, const void* global, int bytes, Barrier* barrier) {
    shared_address(static_cast<std::uint8_t*>(shared) + bytes - 1);
    if (bytes <= 0 || bytes % 16 != 0 || shared_address(shared) % 16 != 0 ||
        reinterpret_cast<std::uintptr_t>(global) % 16 != 0) {
        throw std::logic_error("a bulk copy is not of or not aligned to multiples of 16 bytes");
    }
    for (int rank = 0; ranks >> rank != 0; ++rank) {
        if ((ranks >> rank & 1) == 0) continue;
        auto* const counted = static_cast<Barrier*>(peer_address(barrier, rank));
        auto* const to = static_cast<std::uint8_t*>(peer_address(shared, rank));
        started(counted);
        std::memset(to, kPoison, static_cast<std::size_t>(bytes));
        machine().bulk.push_back({to, static_cast<const std::uint8_t*>(global),
                                  static_cast<std::size_t>(bytes), counted});
    }
}

}  // namespace device
}  // namespace dmpc::cuda
