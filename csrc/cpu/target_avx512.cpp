#define DMPC_TARGET avx512
#define DMPC_TARGET_NAME "avx512"

#include "target.inl"
