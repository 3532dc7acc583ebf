#include "fiber.hpp"

#include <cstring>

namespace dmpc::cuda::emulated {

Fiber::Fiber() : stack_(new std::uint8_t[kStackBytes]) {}

#if defined(__x86_64__)

// Saves what a call keeps on the stack it leaves and restores it from the one it enters; the
// library's swapcontext asks the kernel for the signal mask each time, which is a hundred times
// slower.
asm(R"(
    .text
    .type dmpc_switch_stack, @function
dmpc_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size dmpc_switch_stack, .-dmpc_switch_stack
    .type dmpc_enter_fiber, @function
dmpc_enter_fiber:
    movq %r12, %rdi
    callq *%rbx
    ud2
    .size dmpc_enter_fiber, .-dmpc_enter_fiber
)");
extern "C" void dmpc_switch_stack(void** leave, void** enter) asm("dmpc_switch_stack");
extern "C" void dmpc_enter_fiber() asm("dmpc_enter_fiber");

void Fiber::start(void (*entry)(void*), void* argument) {
    auto top = reinterpret_cast<std::uintptr_t>(stack_.get() + kStackBytes) & ~std::uintptr_t{63};
    // From below: r15, r14, r13, r12, rbx, rbp, where to return to.
    void* frame[8] = {nullptr,
                      nullptr,
                      nullptr,
                      argument,
                      reinterpret_cast<void*>(entry),
                      nullptr,
                      reinterpret_cast<void*>(&dmpc_enter_fiber),
                      nullptr};
    // The call on entry finds the stack aligned to 16 bytes, as every call must.
    top -= sizeof frame + 8;
    std::memcpy(reinterpret_cast<void*>(top), frame, sizeof frame);
    own_ = reinterpret_cast<void*>(top);
}

void Fiber::resume() { dmpc_switch_stack(&caller_, &own_); }
void Fiber::give_way() { dmpc_switch_stack(&own_, &caller_); }

#else

void Fiber::start(void (*entry)(void*), void* argument) {
    getcontext(&own_);
    own_.uc_stack.ss_sp = stack_.get();
    own_.uc_stack.ss_size = kStackBytes;
    own_.uc_link = nullptr;
    const auto bits = reinterpret_cast<std::uintptr_t>(argument);
    const auto code = reinterpret_cast<std::uintptr_t>(entry);
    using Start = void (*)();
    const Start start =
        reinterpret_cast<Start>(+[](unsigned c0, unsigned c1, unsigned a0, unsigned a1) {
            const auto call = reinterpret_cast<void (*)(void*)>(std::uintptr_t{c1} << 32 | c0);
            call(reinterpret_cast<void*>(std::uintptr_t{a1} << 32 | a0));
        });
    makecontext(&own_, start, 4, static_cast<unsigned>(code), static_cast<unsigned>(code >> 32),
                static_cast<unsigned>(bits), static_cast<unsigned>(bits >> 32));
}

void Fiber::resume() { swapcontext(&caller_, &own_); }
void Fiber::give_way() { swapcontext(&own_, &caller_); }

#endif

}  // namespace dmpc::cuda::emulated
