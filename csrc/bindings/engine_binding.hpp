// The CPU engine as the Python class `_engine.Engine`.
#pragma once

#include <pybind11/pybind11.h>

namespace dmpc::bindings {

void bind_engine(pybind11::module_& module);

}  // namespace dmpc::bindings
