#define DMPC_TARGET portable
#define DMPC_TARGET_NAME "portable"

#include "target.inl"
