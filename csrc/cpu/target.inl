// Everything that is compiled once per instruction set, in order. The including source has set
// DMPC_TARGET and DMPC_TARGET_NAME and is compiled with that instruction set's flags.
#include "kernels.hpp"
// clang-format off
#include "simd.inl"
#include "math.inl"
#include "operand.inl"
#include "product.inl"
#include "operand_int8.inl"
#include "norm.inl"
#include "attention_few.inl"
#include "attention.inl"
#include "noise.inl"
#include "update.inl"
#include "table.inl"
// clang-format on
