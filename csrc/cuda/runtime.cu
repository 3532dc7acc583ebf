#include "runtime.hpp"

#include <cuda_runtime_api.h>

#include <stdexcept>

namespace dmpc::cuda {
namespace {

/// Of the kernels that are compiled in.
constexpr int kLeastMajor = 8;

}  // namespace

void check(int error, const char* what) {
    if (error == 0) return;
    const char* name = cudaGetErrorString(static_cast<cudaError_t>(error));
    throw std::runtime_error(std::string(what) + ": " + name);
}

std::string refusal() {
    int count = 0, driver = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
        return "this machine has no NVIDIA driver";
    }
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        return std::string("the CUDA runtime finds no device: ") + cudaGetErrorString(error);
    }
    if (count < 1) return "the CUDA runtime finds no device";
    const DeviceProperties first = properties(0);
    if (first.major < kLeastMajor) {
        return first.name + " has compute capability " + std::to_string(first.major) + "." +
               std::to_string(first.minor) + ", and 8.0 is the least";
    }
    return {};
}

DeviceProperties properties(int device) {
    cudaDeviceProp all{};
    check(cudaGetDeviceProperties(&all, device), "properties of a CUDA device");
    return {
        all.name,  all.multiProcessorCount, static_cast<int>(all.sharedMemPerBlockOptin), all.major,
        all.minor, all.major >= 9};
}

void use(int device) { check(cudaSetDevice(device), "choice of a CUDA device"); }

void* allocate(std::size_t bytes) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, bytes), "allocation on the device");
    return memory;
}

void release(void* memory) noexcept { cudaFree(memory); }

void* allocate_pinned(std::size_t bytes) {
    void* memory = nullptr;
    check(cudaMallocHost(&memory, bytes), "allocation of pinned memory");
    return memory;
}

void release_pinned(void* memory) noexcept { cudaFreeHost(memory); }

void begin_capture(void* stream) {
    // Other threads may do as they like meanwhile, as frameworks with allocators of their own do.
    check(
        cudaStreamBeginCapture(static_cast<cudaStream_t>(stream), cudaStreamCaptureModeThreadLocal),
        "the start of a capture");
}

void* end_capture(void* stream) {
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(static_cast<cudaStream_t>(stream), &graph), "the end of a capture");
    cudaGraphExec_t ready = nullptr;
    const cudaError_t error = cudaGraphInstantiate(&ready, graph, 0);
    cudaGraphDestroy(graph);
    check(error, "a graph");
    return ready;
}

void abandon_capture(void* stream) noexcept {
    cudaGraph_t graph = nullptr;
    cudaStreamEndCapture(static_cast<cudaStream_t>(stream), &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
}

void replay(void* graph, void* stream) {
    check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), static_cast<cudaStream_t>(stream)),
          "the launch of a graph");
}

void destroy_graph(void* graph) noexcept {
    if (graph != nullptr) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph));
}

void* make_stream() {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
    return stream;
}

void destroy_stream(void* stream) noexcept { cudaStreamDestroy(static_cast<cudaStream_t>(stream)); }

void copy_to_device(void* to, const void* from, std::size_t bytes, void* stream) {
    check(
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, static_cast<cudaStream_t>(stream)),
        "a copy to the device");
}

void copy_to_host(void* to, const void* from, std::size_t bytes, void* stream) {
    check(
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, static_cast<cudaStream_t>(stream)),
        "a copy to the host");
}

void wait_for(void* stream) {
    check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "waiting for a plan");
}

}  // namespace dmpc::cuda
