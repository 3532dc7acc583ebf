// Bulk copies on their way.
#pragma once

#include "machine.hpp"

namespace dmpc::cuda::emulated {

/// Some of what has been ordered arrives; something does where nobody else can go on.
void let_copies_arrive(Machine& m);

}  // namespace dmpc::cuda::emulated
