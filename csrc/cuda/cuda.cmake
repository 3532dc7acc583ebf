# The Python modules on top of csrc/cuda: _cuda where nvcc is found, _cuda_emulated for tests.
add_custom_target(python_modules DEPENDS _engine)

set(DMPC_CUDA_HOST csrc/bindings/cuda_module.cpp csrc/cuda/engine_choice.cpp
  csrc/cuda/engine_model.cpp csrc/cuda/engine_run.cpp csrc/cuda/plan_memory.cpp)

if(DMPC_CUDA)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      # Newer devices of the 10 and 12 families compile the intermediate code of the last one.
      set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 100)
    endif()
    enable_language(CUDA)
  endif()
  if(CMAKE_CUDA_COMPILER AND NOT "cuda_std_20" IN_LIST CMAKE_CUDA_COMPILE_FEATURES)
    message(STATUS "this CMake cannot ask nvcc ${CMAKE_CUDA_COMPILER_VERSION} for C++20: the Python "
      "module _cuda is not built; a newer CMake can")
  elseif(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_STANDARD 20)
    pybind11_add_module(_cuda NO_EXTRAS ${DMPC_CUDA_HOST} csrc/cuda/launch.cu csrc/cuda/runtime.cu)
    # Static: the module imports where there is no CUDA, and says so.
    set_target_properties(_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static)
    target_compile_options(_cuda PRIVATE
      $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${DMPC_WERROR}>>:-Werror=all-warnings>)
    target_include_directories(_cuda PRIVATE csrc)
    install(TARGETS _cuda LIBRARY DESTINATION dmpc_fast COMPONENT python)
    add_dependencies(python_modules _cuda)
  else()
    message(STATUS "nvcc is not found: the Python module _cuda is not built")
  endif()
endif()

if(DMPC_CUDA_EMULATED)
  # No extras: link-time optimisation loses the symbols of the assembly.
  pybind11_add_module(_cuda_emulated NO_EXTRAS ${DMPC_CUDA_HOST} csrc/cuda/emulated/device.cpp
    csrc/cuda/emulated/fiber.cpp csrc/cuda/emulated/launch.cpp csrc/cuda/emulated/runtime.cpp
    csrc/cuda/emulated/transfers.cpp csrc/cuda/emulated/warpgroup.cpp)
  target_compile_definitions(_cuda_emulated PRIVATE DMPC_CUDA_EMULATED)
  target_compile_options(_cuda_emulated PRIVATE -Wno-unknown-pragmas)
  target_include_directories(_cuda_emulated PRIVATE csrc)
  target_link_libraries(_cuda_emulated PRIVATE dmpc_warnings)
endif()
