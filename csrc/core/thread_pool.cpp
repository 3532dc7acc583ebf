#include "thread_pool.hpp"

#include "cpu/kernels.hpp"

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace dmpc {
namespace {

// A waiter polls this often before it lets another thread run: long enough to span a plan's uneven
// end, short enough not to starve the thread it waits for when there are fewer cores than threads.
constexpr int kPolls = 2000;

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

template <class Done>
void poll_until(Done done) {
    for (int polls = 0; !done(); ++polls) {
        if (polls < kPolls) {
            pause();
        } else {
            std::this_thread::yield();
        }
    }
}

void pin_to_processor(std::thread& thread, int index) {
#if defined(__linux__)
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    const int target = index % CPU_COUNT(&allowed);
    for (int processor = 0, seen = 0; processor < CPU_SETSIZE; ++processor) {
        if (!CPU_ISSET(processor, &allowed) || seen++ != target) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(processor, &one);
        pthread_setaffinity_np(thread.native_handle(), sizeof one, &one);
        return;
    }
#else
    (void)thread;
    (void)index;
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads, Idle idle, bool pin) : idle_(idle) {
    try {
        for (int worker = 1; worker < threads; ++worker) {
            workers_.emplace_back([this, worker] { work(worker); });
            if (pin) pin_to_processor(workers_.back(), worker);
        }
    } catch (...) {
        stop();
        throw;
    }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() noexcept {
    stop_.store(true, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    for (std::thread& worker : workers_) {
        if (worker.joinable()) worker.join();
    }
}

void ThreadPool::run(Task task, void* context) noexcept {
    if (!workers_.empty()) {
        task_ = task;
        context_ = context;
        working_.store(static_cast<std::uint32_t>(workers_.size()), std::memory_order_relaxed);
        generation_.fetch_add(1, std::memory_order_release);
        if (idle_ == Idle::sleep) generation_.notify_all();
    }
    {
        const cpu::FlushDenormals flush;
        task(context, 0);
    }
    poll_until([this] { return working_.load(std::memory_order_acquire) == 0; });
}

void ThreadPool::meet() noexcept {
    const auto all = static_cast<std::uint64_t>(threads());
    if (all == 1) return;
    // The meeting is over when the count passes a multiple of `all`.
    const std::uint64_t mine = arrived_.fetch_add(1, std::memory_order_acq_rel);
    const std::uint64_t target = mine - mine % all + all;
    poll_until([&] { return arrived_.load(std::memory_order_acquire) >= target; });
}

void ThreadPool::work(int worker) noexcept {
    const cpu::FlushDenormals flush;
    std::uint32_t seen = 0;
    for (;;) {
        seen = wait_for_task(seen);
        if (stop_.load(std::memory_order_relaxed)) return;
        task_(context_, worker);
        working_.fetch_sub(1, std::memory_order_release);
    }
}

std::uint32_t ThreadPool::wait_for_task(std::uint32_t seen) const noexcept {
    std::uint32_t now;
    if (idle_ == Idle::spin) {
        while ((now = generation_.load(std::memory_order_acquire)) == seen) pause();
        return now;
    }
    for (int polls = 0; polls < kPolls; ++polls) {
        if ((now = generation_.load(std::memory_order_acquire)) != seen) return now;
        pause();
    }
    while ((now = generation_.load(std::memory_order_acquire)) == seen) generation_.wait(seen);
    return now;
}

}  // namespace dmpc
