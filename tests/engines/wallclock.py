"""A wall clock that a test sets for one running child process: also for static Go binaries.

A Go program reads the time in user space, with the ``clock_gettime`` of the vDSO (vdso(7)), so that
neither ``LD_PRELOAD`` nor a trace of system calls reaches it. But each process has a vDSO of its own,
and its parent may write there as a debugger does (proc_pid_mem(5)). `WallClock` lets it jump to a few
instructions in the place of ``gettimeofday``, which Go never calls: they ask the kernel, and replace the
answer for ``CLOCK_REALTIME`` by the second that stands in a slot behind them, unless that is zero. A
thread that a signal interrupted in the midst of the old function finds all but its first five bytes as
they were. Timers are left alone: they use the monotonic clock. Linux on x86-64 only.
"""

from __future__ import annotations

import os
import platform
import re
import signal
import struct
import time
from datetime import datetime
from pathlib import Path

SLOT = 64
JUMP = 5
INSTRUCTIONS = b"".join(
    [
        b"\xb8\xe4\x00\x00\x00",  # mov eax, 228 (clock_gettime)
        b"\x0f\x05",  # syscall
        b"\x85\xff",  # test edi, edi: CLOCK_REALTIME is 0
        b"\x75\x17",  # jnz end
        b"\x48\x8b\x0d" + struct.pack("<i", SLOT - 18),  # mov rcx, [slot]
        b"\x48\x85\xc9",  # test rcx, rcx
        b"\x74\x0b",  # jz end
        b"\x48\x89\x0e",  # mov [rsi], rcx: the seconds
        b"\x48\xc7\x46\x08\x00\x00\x00\x00",  # mov qword [rsi+8], 0: the nanoseconds
        b"\xc3",  # end: ret
    ]
)


class WallClock:
    """The wall clock of the child process ``pid``: real until it is set; it stands where it is set."""

    def __init__(self, pid: int) -> None:
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            raise RuntimeError("the clock of a process can be set on Linux on x86-64 only")
        self._pid = pid
        _wait_until_loaded(pid)
        self._memory = Path(f"/proc/{pid}/mem").open("r+b", buffering=0)  # noqa: SIM115
        self._function = self._address_of(b"__vdso_clock_gettime", least=JUMP)
        self._place = self._address_of(b"__vdso_gettimeofday", least=SLOT + 8)
        self._replace_function()

    def set(self, instant: datetime) -> None:
        """Let the clock stand at the whole second of ``instant``."""
        self._write(self._place + SLOT, struct.pack("<q", int(instant.timestamp())))

    def release(self) -> None:
        """Let the process see the real time again."""
        self._write(self._place + SLOT, bytes(8))

    def close(self) -> None:
        self._memory.close()

    def _write(self, address: int, data: bytes) -> None:
        self._memory.seek(address)
        self._memory.write(data)

    def _address_of(self, symbol: bytes, *, least: int) -> int:
        """Find a function of the vDSO, an ELF image (elf(5)), that takes at least so many bytes."""
        maps = Path(f"/proc/{self._pid}/maps").read_text()
        vdso = re.search(r"^(\w+)-(\w+) .*\[vdso\]$", maps, re.MULTILINE)
        assert vdso is not None
        begin, end = (int(part, 16) for part in vdso.groups())
        self._memory.seek(begin)
        image = self._memory.read(end - begin)
        table, size, count = (
            *struct.unpack_from("<Q", image, 40),
            *struct.unpack_from("<HH", image, 58),
        )
        sections = [
            struct.unpack_from("<IIQQQQIIQQ", image, table + i * size) for i in range(count)
        ]
        symbols = next(section for section in sections if section[1] == 11)  # SHT_DYNSYM
        names = sections[symbols[6]][4]
        for at in range(symbols[4], symbols[4] + symbols[5], 24):
            name, _, _, _, value, length = struct.unpack_from("<IBBHQQ", image, at)
            if image.startswith(symbol + b"\0", names + name) and length >= least:
                return begin + int(value)
        raise LookupError(f"the vDSO has no {symbol!r} of {least} bytes")

    def _replace_function(self) -> None:
        """Write the jump while no thread is at it."""
        self._write(self._place, INSTRUCTIONS.ljust(SLOT, b"\x90") + bytes(8))
        jump = b"\xe9" + struct.pack("<i", self._place - self._function - JUMP)
        inside = range(self._function, self._function + JUMP)
        for _ in range(100):
            os.kill(self._pid, signal.SIGSTOP)
            try:
                _wait_until_stopped(self._pid)
                if not any(counter in inside for counter in _program_counters(self._pid)):
                    self._write(self._function, jump)
                    return
            finally:
                os.kill(self._pid, signal.SIGCONT)
        raise RuntimeError("the process reads its clock all the time")


def _wait_until_loaded(pid: int) -> None:
    """Wait for what the kernel maps last into a process that has just been started."""
    deadline = time.monotonic() + 5
    while "[vdso]" not in Path(f"/proc/{pid}/maps").read_text():
        if time.monotonic() > deadline:
            raise RuntimeError("the process has no vDSO")


def _wait_until_stopped(pid: int) -> None:
    states: list[str] = []
    while set(states) != {"T"}:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks]


def _program_counters(pid: int) -> list[int]:
    """Return where each thread of a stopped process stands (proc_pid_syscall(5))."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int((task / "syscall").read_text().split()[-1], 16) for task in tasks]
