#define DMPC_TARGET avx512_bf16
#define DMPC_TARGET_NAME "avx512_bf16"

#include "target.inl"
