// How far a plan got: all of it, or what its deadline left time for.
#pragma once

namespace dmpc {

/// With several robots or candidate groups, the least of any.
struct Level {
    int candidates = 0;      // that were planned; the others have a score of -infinity
    int full = 0;            // of those, with all the steps of their samplers
    int proposal_steps = 0;  // network evaluations that a planned candidate had at least
    int dynamics_steps = 0;
    bool complete = false;  // every candidate was planned with all the steps of its samplers
    bool missed = false;    // the plan was ready only after its deadline
};

}  // namespace dmpc
