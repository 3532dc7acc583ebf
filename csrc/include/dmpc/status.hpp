// What a call that must not throw answers.
#pragma once

namespace dmpc {

enum class [[nodiscard]] Status {
    ok,
    not_finite,        // an input holds NaN or infinity
    wrong_size,        // a span's length is not what the model asks for
    invalid_argument,  // a request that no model could serve: no candidates, an index out of range
    too_large,         // more than what was prepared, and memory for it could not be had
    no_candidate,      // the model gave no candidate with finite actions and a score
    no_policy,         // a policy was asked for, and the model has none
    busy,              // another thread is inside a call of the same object
};

/// One English clause, without a full stop.
constexpr const char* message(Status status) noexcept {
    switch (status) {
        case Status::ok: return "ok";
        case Status::not_finite: return "an input holds NaN or infinity";
        case Status::wrong_size: return "an array's length is not what the model asks for";
        case Status::invalid_argument: return "the request is not valid";
        case Status::too_large: return "the request is larger than what was prepared";
        case Status::no_candidate: return "no candidate has finite actions and a score";
        case Status::no_policy: return "the model has no policy";
        case Status::busy: return "another thread is inside a call of the same object";
    }
    return "unknown status";
}

}  // namespace dmpc
