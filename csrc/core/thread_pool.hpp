// Persistent workers that meet once per task: no queue, no lock, no allocation after construction.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace dmpc {

/// What a worker does between tasks. A sleeping worker costs a wake-up of some microseconds; a
/// spinning one keeps its core busy.
enum class Idle { sleep, spin };

class ThreadPool {
public:
    /// `threads` counts the calling thread. With `pin`, worker i runs on the i-th processor that
    /// the process may use; the caller is never pinned. Throws std::system_error if a thread cannot
    /// start.
    explicit ThreadPool(int threads, Idle idle = Idle::sleep, bool pin = false);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int threads() const { return static_cast<int>(workers_.size()) + 1; }

    using Task = void (*)(void* context, int worker);

    /// Runs task(context, worker) once on every thread, worker 0 being the caller, and returns when
    /// all have finished. One caller at a time.
    void run(Task task, void* context) noexcept;

    /// Inside a task: waits until every thread has come here.
    void meet() noexcept;

private:
    void stop() noexcept;
    void work(int worker) noexcept;
    std::uint32_t wait_for_task(std::uint32_t seen) const noexcept;

    Idle idle_;
    Task task_ = nullptr;
    void* context_ = nullptr;
    alignas(64) std::atomic<std::uint32_t> generation_{0};
    alignas(64) std::atomic<std::uint32_t> working_{0};
    alignas(64) std::atomic<std::uint64_t> arrived_{0};  // counted for ever
    std::atomic<bool> stop_{false};
    std::vector<std::thread> workers_;
};

}  // namespace dmpc
