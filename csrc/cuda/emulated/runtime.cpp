#include "runtime.hpp"

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <utility>
#include <vector>

#include "../params.hpp"
#include "../runtime.hpp"

namespace dmpc::cuda {
namespace emulated {
namespace {
std::string& failure() {
    static std::string last;
    return last;
}

using Graph = std::vector<std::function<int()>>;

struct Runtime {
    Traffic traffic;
    std::unique_ptr<Graph> capture;  // of `capturing`
    void* capturing = nullptr;
    std::map<const std::uint8_t*, std::size_t> pinned;
};
Runtime& runtime() {
    static Runtime only;
    return only;
}

/// What a device refuses while a stream is being captured.
void refuse_in_capture(const char* what) {
    if (runtime().capture) throw std::logic_error(std::string(what) + " during a capture");
}

/// A graph runs its copies when the host's memory must still be there.
void check_pinned(const void* memory, std::size_t bytes) {
    const Runtime& r = runtime();
    if (!r.capture) return;
    const auto* at = static_cast<const std::uint8_t*>(memory);
    auto next = r.pinned.upper_bound(at);
    if (next == r.pinned.begin() || at + bytes > (--next)->first + next->second) {
        throw std::logic_error("a graph copies memory that is not pinned");
    }
}

}  // namespace

int enqueue(void* stream, std::function<int()> work) {
    Runtime& r = runtime();
    if (!r.capture) return work();
    if (stream != r.capturing) throw std::logic_error("another stream than the captured one");
    r.capture->push_back(std::move(work));
    return 0;
}

const Traffic& traffic() { return runtime().traffic; }

void note_failure(const std::string& reason) { failure() = reason; }

}  // namespace emulated

using namespace emulated;

std::string refusal() { return {}; }

DeviceProperties properties(int) { return {"emulated", 132, 227 * 1024, 9, 0, true}; }

void use(int) {}

void* allocate(std::size_t bytes) {
    refuse_in_capture("an allocation");
    void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (memory == nullptr) throw std::bad_alloc();
    // NaN: what nobody writes is not read as a number.
    std::memset(memory, 0xFF, bytes);
    return memory;
}

void release(void* memory) noexcept { std::free(memory); }

void* allocate_pinned(std::size_t bytes) {
    void* memory = allocate(bytes);
    runtime().pinned[static_cast<std::uint8_t*>(memory)] = bytes;
    return memory;
}
void release_pinned(void* memory) noexcept {
    runtime().pinned.erase(static_cast<std::uint8_t*>(memory));
    release(memory);
}

void* make_stream() { return new char; }
void destroy_stream(void* stream) noexcept { delete static_cast<char*>(stream); }

void copy_to_device(void* to, const void* from, std::size_t bytes, void* stream) {
    check_pinned(from, bytes);
    enqueue(stream, [=] {
        if (bytes > 0) std::memcpy(to, from, bytes);
        return 0;
    });
}
void copy_to_host(void* to, const void* from, std::size_t bytes, void* stream) {
    check_pinned(to, bytes);
    enqueue(stream, [=] {
        if (bytes > 0) std::memcpy(to, from, bytes);
        return 0;
    });
}
void wait_for(void*) {
    refuse_in_capture("a wait");
    ++runtime().traffic.waits;
}

void begin_capture(void* stream) {
    refuse_in_capture("a capture");
    runtime().capture = std::make_unique<Graph>();
    runtime().capturing = stream;
}
void* end_capture(void*) {
    ++runtime().traffic.captures;
    return runtime().capture.release();
}
void abandon_capture(void*) noexcept { runtime().capture.reset(); }
void replay(void* graph, void* stream) {
    Runtime& r = runtime();
    ++r.traffic.replays;
    r.traffic.last_stream = stream;
    for (const auto& work : *static_cast<Graph*>(graph)) check(work(), "a graph");
}
void destroy_graph(void* graph) noexcept { delete static_cast<Graph*>(graph); }

void check(int error, const char* what) {
    if (error != 0) throw std::runtime_error(std::string(what) + ": " + emulated::failure());
}

}  // namespace dmpc::cuda
