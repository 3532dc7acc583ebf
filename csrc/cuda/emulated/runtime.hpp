// Why a launch of the emulation failed.
#pragma once

#include <string>

namespace dmpc::cuda::emulated {

inline constexpr int kFailed = 1;
void note_failure(const std::string& reason);

}  // namespace dmpc::cuda::emulated
