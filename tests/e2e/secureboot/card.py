"""A graphics card that is only there: on the PCI bus, with the registers that name the chip, and nothing behind them.

QEMU lets another process play a PCI device (x-pci-proxy-dev) and asks it over a socket for the device's configuration
space and for reads and writes of its memory. The process is a thread here. Its kernel and driver are real; the card
answers who it is, and every other register is zero.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Dict, List, Tuple

# hw/remote/mpqemu-link.h of QEMU 7.2: the header is the command and the size of what follows.
HEADER = struct.Struct("<iiQ")
SYNC_SYSMEM, RET, CONFIG_WRITE, CONFIG_READ, BAR_WRITE, BAR_READ, SET_IRQFD, RESET = range(8)
CONFIG = struct.Struct("<IIi")
BAR = struct.Struct("<QQI4x")
MIB = 1 << 20
#: Registers, the frame buffer and the rest, as on a card of this size but smaller.
BARS = (16 * MIB, 64 * MIB, 0, 32 * MIB, 0, 0)
FIRST_BAR = 0x10
#: Quadro P2000: vendor, device, class, subsystem.
VENDOR, DEVICE, CLASS, SUBSYSTEM = 0x10DE, 0x1C30, 0x030000, 0x11B310DE
#: Where a chip says what it is: GP106, revision A1, in the old form and in the new one.
REGISTERS = {0x0: 0x136000A1, 0xA00: 0x136A1000}


class Card:
    """One card; `arguments` are QEMU's options for it, `descriptor` what QEMU has to inherit."""

    def __init__(self) -> None:
        """Put it on the bus; it answers until `close`."""
        self._mine, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.descriptor = self._theirs.fileno()
        self.arguments = ["-device", "pcie-root-port,id=below,chassis=1", "-device"]
        self.arguments += [f"x-pci-proxy-dev,id=card,bus=below,fd={self.descriptor}"]
        self._config = bytearray(256)
        struct.pack_into("<HH", self._config, 0, VENDOR, DEVICE)
        struct.pack_into("<I", self._config, 8, CLASS << 8 | 0xA1)
        struct.pack_into("<I", self._config, 0x2C, SUBSYSTEM)
        self._config[0x3D] = 1
        self._memory: Dict[int, int] = dict(REGISTERS)
        #: Each register that was asked for, in order, for whoever wants to know what a driver does.
        self.asked: List[Tuple[str, int]] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take it off the bus; QEMU must have ended."""
        self._theirs.close()
        self._mine.close()
        self._thread.join(10)

    def _serve(self) -> None:
        """Answer until QEMU hangs up."""
        with contextlib.suppress(OSError, EOFError):
            while True:
                command, _, size = HEADER.unpack(self._take(HEADER.size))
                data = self._take(size)
                if command in (SYNC_SYSMEM, SET_IRQFD):
                    continue  # QEMU expects no answer
                value = self._answer(command, data) & (1 << 64) - 1
                self._mine.sendall(HEADER.pack(RET, 0, 8) + struct.pack("<Q", value))

    def _take(self, size: int) -> bytes:
        """Exactly so many bytes; descriptors that come along are dropped."""
        found = b""
        while len(found) < size:
            more = self._mine.recv(size - len(found))
            if not more:
                raise EOFError
            found += more
        return found

    def _answer(self, command: int, data: bytes) -> int:
        """What a read gives; 0 for anything else."""
        if command in (CONFIG_READ, CONFIG_WRITE):
            address, value, length = CONFIG.unpack(data)
            if command == CONFIG_READ:
                return int.from_bytes(self._config[address : address + length], "little")
            self._configure(address, value.to_bytes(4, "little")[:length])
        if command in (BAR_READ, BAR_WRITE):
            address, value, length = BAR.unpack(data)
            place = self._register(address)
            self.asked.append(("read" if command == BAR_READ else "write", place))
            if command == BAR_READ:
                return self._memory.get(place, 0) & (1 << 8 * length) - 1
        return 0

    def _configure(self, address: int, value: bytes) -> None:
        """Write what may be written: the command register and the addresses of the card's memory."""
        for number, byte in enumerate(value, start=address):
            bar = (number - FIRST_BAR) // 4
            if 0 <= bar < len(BARS):
                # The low bits of an address are fixed: by them the size is found.
                mask = (-BARS[bar] & 0xFFFFFFFF) if BARS[bar] else 0
                self._config[number] = byte & mask.to_bytes(4, "little")[(number - FIRST_BAR) % 4]
            elif number in (4, 5, 0x0C, 0x3C):
                self._config[number] = byte

    def _register(self, address: int) -> int:
        """The offset of an address within the card's registers; addresses elsewhere as they are."""
        start = int.from_bytes(self._config[FIRST_BAR : FIRST_BAR + 4], "little")
        return address - start if start <= address < start + BARS[0] else address
