// The emulation's side of the runtime: why a launch failed, and streams that are being captured.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace dmpc::cuda::emulated {

inline constexpr int kFailed = 1;
void note_failure(const std::string& reason);

/// Runs `work`, which returns an error, or keeps it for the graph where `stream` is being captured.
/// Whatever it needs it holds by value, as a graph does.
int enqueue(void* stream, std::function<int()> work);

/// What has happened up to now.
struct Traffic {
    int captures = 0, replays = 0, waits = 0;
    void* last_stream = nullptr;  // of a replay
};
const Traffic& traffic();

}  // namespace dmpc::cuda::emulated
