"""Secure Boot on a machine with a real firmware, boot loader and kernel, emulated by QEMU (see ../README.md)."""
