#define DMPC_TARGET avx2
#define DMPC_TARGET_NAME "avx2"

#include "target.inl"
