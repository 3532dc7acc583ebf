// The embedder's planner as the Python class `_engine.Planner`.
#pragma once

#include <pybind11/pybind11.h>

namespace dmpc::bindings {

void bind_planner(pybind11::module_& module);

}  // namespace dmpc::bindings
