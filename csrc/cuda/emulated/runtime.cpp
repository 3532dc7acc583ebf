#include "runtime.hpp"

#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

#include "../params.hpp"
#include "../runtime.hpp"

namespace dmpc::cuda {
namespace emulated {
namespace {
std::string& failure() {
    static std::string last;
    return last;
}
}  // namespace

void note_failure(const std::string& reason) { failure() = reason; }

}  // namespace emulated

std::string refusal() { return {}; }

DeviceProperties properties(int) { return {"emulated", 132, 227 * 1024, 9, 0, true}; }

void use(int) {}

void* allocate(std::size_t bytes) {
    void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (memory == nullptr) throw std::bad_alloc();
    // NaN: what nobody writes is not read as a number.
    std::memset(memory, 0xFF, bytes);
    return memory;
}

void release(void* memory) noexcept { std::free(memory); }
void* make_stream() { return nullptr; }
void destroy_stream(void*) noexcept {}

void copy_to_device(void* to, const void* from, std::size_t bytes, void*) {
    if (bytes > 0) std::memcpy(to, from, bytes);
}
void copy_to_host(void* to, const void* from, std::size_t bytes, void*) {
    if (bytes > 0) std::memcpy(to, from, bytes);
}
void clear(void* memory, std::size_t bytes, void*) { std::memset(memory, 0, bytes); }
void wait_for(void*) {}

void check(int error, const char* what) {
    if (error != 0) throw std::runtime_error(std::string(what) + ": " + emulated::failure());
}

}  // namespace dmpc::cuda
