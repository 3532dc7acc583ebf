# Toolchain for `make cross`: 64-bit Arm with Debian's cross compiler; tests run under qemu.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
find_program(DMPC_QEMU NAMES qemu-aarch64-static qemu-aarch64)
if(DMPC_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${DMPC_QEMU} -L /usr/aarch64-linux-gnu)
endif()
