// What host code asks of the device: memory, copies and properties. Two implementations: the CUDA
// runtime (runtime.cu) and, for tests, the host itself (emulated/runtime.cpp).
#pragma once

#include <cstddef>
#include <string>

namespace dmpc::cuda {

/// Of one device, as far as choices rest on it.
struct DeviceProperties {
    std::string name;
    int processors;    // streaming multiprocessors
    int shared_bytes;  // of a block, at most
    int major, minor;  // compute capability
    bool clusters;     // blocks can read one another's shared memory
};

/// Why no device can be used; empty where one can.
std::string refusal();
/// Throws std::runtime_error where there is no such device.
DeviceProperties properties(int device);

/// Makes `device` the calling thread's.
void use(int device);
void* allocate(std::size_t bytes);
void release(void* memory) noexcept;
/// Memory of the host that copies need not go through another for.
void* allocate_pinned(std::size_t bytes);
void release_pinned(void* memory) noexcept;
/// A stream that synchronises with no other.
void* make_stream();
void destroy_stream(void* stream) noexcept;
/// Asynchronous; the host's memory is pinned where the stream is being captured.
void copy_to_device(void* to, const void* from, std::size_t bytes, void* stream);
void copy_to_host(void* to, const void* from, std::size_t bytes, void* stream);
void wait_for(void* stream);

/// From here on, what this thread puts on `stream` is kept instead of run.
void begin_capture(void* stream);
/// What has been kept, as a graph that can be run any number of times.
void* end_capture(void* stream);
/// After a failure: what has been kept is dropped.
void abandon_capture(void* stream) noexcept;
void replay(void* graph, void* stream);
void destroy_graph(void* graph) noexcept;
/// Throws std::runtime_error naming `what` unless `error` is 0.
void check(int error, const char* what);

}  // namespace dmpc::cuda
