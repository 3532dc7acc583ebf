// The least that a test program needs: a check that says where it failed, and a way to expect
// errors.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

/// Ends the program with the failed condition's text and place.
#define CHECK(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                        \
        }                                                                        \
    } while (false)

namespace dmpc::test {

/// The message of the Error that `action` throws; empty where it throws none.
template <class Error, class Action>
std::string error_of(Action action) {
    try {
        action();
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

inline bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace dmpc::test
