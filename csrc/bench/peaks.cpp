// What this machine can do at best: products from registers and reads from each level of memory.
//
//     c++ -O2 -std=c++20 -pthread csrc/bench/peaks.cpp -o peaks && ./peaks [threads]
//
// Prints JSON: GFLOP/s (GOP/s for int8) and GB/s of all threads together, each the best of several
// rounds; null where the processor lacks the instruction. One file without dependencies, since it
// says what the rest is measured against.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace {

using Clock = std::chrono::steady_clock;

constexpr int rounds = 7;
constexpr double round_s = 0.05;

// Assembly, because the compiler spills accumulators around some of these intrinsics, and then
// measures its own spills. Twelve chains of dependent products hide every latency so far.
#if defined(__x86_64__)
#define DMPC_TWELVE(op, r, a, b)                                                              \
    op " " b "," a "," r "0\n" op " " b "," a "," r "1\n" op " " b "," a "," r "2\n" op " " b \
       "," a "," r "3\n" op " " b "," a "," r "4\n" op " " b "," a "," r "5\n" op " " b "," a \
       "," r "6\n" op " " b "," a "," r "7\n" op " " b "," a "," r "8\n" op " " b "," a "," r \
       "9\n" op " " b "," a "," r "10\n" op " " b "," a "," r "11\n"
#define DMPC_CLOBBER                                                                               \
    "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
        "xmm11", "xmm12", "xmm13"
// All registers are zero: denormals or infinities would slow some processors down.
#define DMPC_CHAIN(name, zero, op, r)                                                           \
    void name(long count) {                                                                     \
        __asm__ volatile(DMPC_TWELVE(zero, r, r "0", r "0") zero " %%xmm12,%%xmm12,%%xmm12\n" \
                         zero " %%xmm13,%%xmm13,%%xmm13\n"                                   \
                         "1:\n" DMPC_TWELVE(op, r, r "12", r "13") "dec %0\n"                \
                         "jnz 1b\n"                                                          \
                         "vzeroupper\n"                                                      \
                         : "+r"(count)                                                       \
                         :                                                                   \
                         : DMPC_CLOBBER); \
    }
DMPC_CHAIN(float_avx2, "vpxor", "vfmadd231ps", "%%ymm")
DMPC_CHAIN(float_avx512, "vpxord", "vfmadd231ps", "%%zmm")
DMPC_CHAIN(bf16_avx512, "vpxord", "vdpbf16ps", "%%zmm")
DMPC_CHAIN(int8_avx512, "vpxord", "vpdpbusd", "%%zmm")

void read_avx(const char* data, std::size_t bytes) {
    const char* end = data + bytes;
    __asm__ volatile(
        "1:\n"
        "vmovaps (%0),%%ymm0\n vmovaps 32(%0),%%ymm1\n"
        "vmovaps 64(%0),%%ymm2\n vmovaps 96(%0),%%ymm3\n"
        "vmovaps 128(%0),%%ymm4\n vmovaps 160(%0),%%ymm5\n"
        "vmovaps 192(%0),%%ymm6\n vmovaps 224(%0),%%ymm7\n"
        "add $256,%0\n cmp %1,%0\n jb 1b\n"
        "vzeroupper\n"
        : "+r"(data)
        : "r"(end)
        : DMPC_CLOBBER, "memory");
}
void read_avx512(const char* data, std::size_t bytes) {
    const char* end = data + bytes;
    __asm__ volatile(
        "1:\n"
        "vmovaps (%0),%%zmm0\n vmovaps 64(%0),%%zmm1\n"
        "vmovaps 128(%0),%%zmm2\n vmovaps 192(%0),%%zmm3\n"
        "add $256,%0\n cmp %1,%0\n jb 1b\n"
        "vzeroupper\n"
        : "+r"(data)
        : "r"(end)
        : DMPC_CLOBBER, "memory");
}
#endif

void pin(int thread) {
#if defined(__linux__)
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &allowed) || seen++ != thread) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        pthread_setaffinity_np(pthread_self(), sizeof one, &one);
        return;
    }
#else
    static_cast<void>(thread);
#endif
}

/// Best rate over the rounds of `work(thread, repetitions)` on all threads, in units a second.
double rate(int threads, double units, const std::function<void(int, long)>& work) {
    const auto start = Clock::now();
    long repetitions = 1;
    for (;; repetitions *= 2) {
        const auto begin = Clock::now();
        work(0, repetitions);
        if (std::chrono::duration<double>(Clock::now() - begin).count() > round_s / 4) break;
        if (Clock::now() - start > std::chrono::seconds(10)) break;
    }
    repetitions *= 4;
    double best = 0;
    for (int round = 0; round < rounds; ++round) {
        std::atomic<int> ready{0};
        std::vector<double> seconds(static_cast<std::size_t>(threads));
        std::vector<std::thread> crew;
        for (int t = 0; t < threads; ++t) {
            crew.emplace_back([&, t] {
                pin(t);
                work(t, 1);
                ++ready;
                while (ready.load() < threads) {
                }
                const auto begin = Clock::now();
                work(t, repetitions);
                seconds[static_cast<std::size_t>(t)] =
                    std::chrono::duration<double>(Clock::now() - begin).count();
            });
        }
        for (auto& one : crew) one.join();
        const double slowest = *std::max_element(seconds.begin(), seconds.end());
        best = std::max(best, units * static_cast<double>(repetitions) * threads / slowest);
    }
    return best;
}

using Chain = void (*)(long);
using Read = void (*)(const char*, std::size_t);

struct Instructions {
    Chain float32 = nullptr, bf16 = nullptr, int8 = nullptr;
    int bytes = 0;  // of a float32 vector
    Read read = nullptr;
};

Instructions instructions() {
    Instructions best;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        best = {float_avx2, nullptr, nullptr, 32, read_avx};
    }
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) {
        best = {float_avx512, nullptr, nullptr, 64, read_avx512};
        if (__builtin_cpu_supports("avx512bf16")) best.bf16 = bf16_avx512;
        if (__builtin_cpu_supports("avx512vnni")) best.int8 = int8_avx512;
    }
#endif
    return best;
}

std::optional<double> products(int threads, Chain chain, double operations) {
    if (chain == nullptr) return std::nullopt;
    constexpr long inner = 1000;
    return rate(threads, 12 * operations * inner, [chain](int, long n) { chain(n * inner); }) / 1e9;
}

std::optional<double> reads(int threads, Read read, std::size_t bytes) {
    if (read == nullptr) return std::nullopt;
    std::vector<char*> buffers(static_cast<std::size_t>(threads));
    for (auto& buffer : buffers) {
        buffer = static_cast<char*>(std::aligned_alloc(4096, bytes));
        if (buffer == nullptr) std::abort();
        std::fill(buffer, buffer + bytes, char{0});
    }
    const double best = rate(threads, static_cast<double>(bytes), [&](int thread, long n) {
        for (long i = 0; i < n; ++i) read(buffers[static_cast<std::size_t>(thread)], bytes);
    });
    for (char* buffer : buffers) std::free(buffer);
    return best / 1e9;
}

void print(const char* name, std::optional<double> value, bool last = false) {
    if (value) {
        std::printf("  \"%s\": %.1f%s\n", name, *value, last ? "" : ",");
    } else {
        std::printf("  \"%s\": null%s\n", name, last ? "" : ",");
    }
}

}  // namespace

int main(int argc, char** argv) {
    const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
    if (threads < 1 || threads > 1024) {
        std::fprintf(stderr, "usage: peaks [threads from 1 to 1024]\n");
        return 2;
    }
    const Instructions have = instructions();
    constexpr std::size_t kib = 1024;
    std::printf("{\n  \"threads\": %d,\n", threads);
    print("float32_gflops", products(threads, have.float32, have.bytes / 4 * 2));
    print("bf16_gflops", products(threads, have.bf16, have.bytes / 4 * 4));
    print("int8_gops", products(threads, have.int8, have.bytes / 4 * 8));
    print("read_16_kib_gbs", reads(threads, have.read, 16 * kib));
    print("read_512_kib_gbs", reads(threads, have.read, 512 * kib));
    print("read_8_mib_gbs", reads(threads, have.read, 8 * kib * kib));
    print("read_512_mib_gbs", reads(threads, have.read, 512 * kib * kib), true);
    std::printf("}\n");
}
