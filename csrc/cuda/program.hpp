// A plan of one shape: memory of its own and, once it has run, a graph of its copies and launches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "runtime.hpp"

namespace dmpc::cuda {

/// Memory that grows as needed; what was there is lost where it does.
template <void* (*Allocate)(std::size_t), void (*Release)(void*) noexcept>
class Memory {
public:
    Memory() = default;
    ~Memory() { Release(memory_); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    std::uint8_t* at_least(std::size_t bytes) {
        if (bytes > bytes_) {
            Release(memory_);
            memory_ = nullptr;
            bytes_ = 0;
            memory_ = Allocate(bytes);
            bytes_ = bytes;
        }
        return static_cast<std::uint8_t*>(memory_);
    }

private:
    void* memory_ = nullptr;
    std::size_t bytes_ = 0;
};
using DeviceMemory = Memory<allocate, release>;
using PinnedMemory = Memory<allocate_pinned, release_pinned>;

/// Whatever its requests hold, sizes are the same: pointers and launches stay as they were
/// captured.
class Program {
public:
    Program() = default;
    ~Program() { destroy_graph(graph_); }
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;

    DeviceMemory inputs, workspace;
    PinnedMemory given, results;  // the host's ends of the copies
    std::uint64_t last_used = 0;

    /// Captures what `enqueue` puts on `capture_stream`, once, and runs it on `stream`.
    void run(void* capture_stream, void* stream, const std::function<void()>& enqueue) {
        if (graph_ == nullptr) {
            begin_capture(capture_stream);
            try {
                enqueue();
            } catch (...) {
                abandon_capture(capture_stream);
                throw;
            }
            graph_ = end_capture(capture_stream);
        }
        replay(graph_, stream);
    }

private:
    void* graph_ = nullptr;
};

}  // namespace dmpc::cuda
