// Options of a planner that are whole numbers within bounds.
#pragma once

#include <stdexcept>
#include <string>

namespace dmpc {

/// `value`; throws std::invalid_argument, which names the option, unless it lies in [low, high].
inline int in_range(const char* name, int value, int low, int high) {
    if (value >= low && value <= high) return value;
    throw std::invalid_argument(std::string(name)
                                    .append(" must be from ")
                                    .append(std::to_string(low))
                                    .append(" to ")
                                    .append(std::to_string(high))
                                    .append(", got ")
                                    .append(std::to_string(value)));
}

}  // namespace dmpc
