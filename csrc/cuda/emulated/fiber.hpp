// A stack of its own that a function runs on until it gives way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace dmpc::cuda::emulated {

class Fiber {
public:
    Fiber();
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    /// The next `resume` calls entry(argument), which must not return but `give_way` for ever.
    void start(void (*entry)(void*), void* argument);
    /// Runs it until it gives way.
    void resume();
    /// Called on the fiber: back to whoever resumed it.
    void give_way();

private:
    static constexpr std::size_t kStackBytes = 256 * 1024;

    std::unique_ptr<std::uint8_t[]> stack_;
#if defined(__x86_64__)
    void *own_ = nullptr, *caller_ = nullptr;
#else
    ucontext_t own_, caller_;
#endif
};

}  // namespace dmpc::cuda::emulated
