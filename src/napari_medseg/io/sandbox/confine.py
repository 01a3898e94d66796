"""A process gives up its rights before it reads a file that is not trusted: to write, to reach out, to start programs.

Linux has two means. Neither needs a privilege, and both are used, because a kernel may lack either:

- Landlock (5.13 and later) refuses by the object: a process writes, makes, moves, removes and executes no file, uses no
  TCP port, and signals or traces no process outside.
- seccomp refuses by the system call, on x86-64 and aarch64: also modes, owners, times, attributes and every socket.

macOS has neither. There the limits of POSIX remain: a process can make empty files and remove files, but it writes no
byte. Windows has no such limits.

Sources: landlock(7), landlock_create_ruleset(2), seccomp(2), prctl(2), setrlimit(2) and the kernel's headers of them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator

_PR_SET_NO_NEW_PRIVS = 38

# The numbers of Landlock's calls, as of all later ones, are the same on every machine.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_ACCESS_FS = (
    (1, 0b1_1111_1111_0011),  # all but READ_FILE and READ_DIR: EXECUTE, WRITE_FILE, REMOVE_*, MAKE_*
    (2, 1 << 13),  # REFER, to move between folders
    (3, 1 << 14),  # TRUNCATE
    (5, 1 << 15),  # IOCTL_DEV
)
"""(version of Landlock, the rights that it can refuse first): LANDLOCK_ACCESS_FS_*."""
_ACCESS_NET = ((4, 0b11),)
"""LANDLOCK_ACCESS_NET_*: BIND_TCP and CONNECT_TCP."""
_SCOPES = ((6, 0b11),)
"""LANDLOCK_SCOPE_*: ABSTRACT_UNIX_SOCKET and SIGNAL."""

_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1
_RET_ALLOW, _RET_ERRNO = 0x7FFF_0000, 0x0005_0000
_MACHINES = {"x86_64": (0xC000_003E, 317, 0), "aarch64": (0xC000_00B7, 277, 1)}
"""{machine: (its AUDIT_ARCH, the number of its call seccomp, its column in the tables below)}."""
_TO_WRITE = 0o1 | 0o2 | 0o100 | 0o1000
"""O_WRONLY, O_RDWR, O_CREAT and O_TRUNC, the same on both machines."""
_OPENING: dict[str, tuple[int, int | None, int]] = {"open": (2, None, 1), "openat": (257, 56, 2)}
"""{call: (number on x86-64, on aarch64, which of its arguments holds the flags)}; refused with the flags above."""
_REFUSED: dict[str, tuple[int, int | None]] = {
    "creat": (85, None),
    "truncate": (76, 45),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "rmdir": (84, None),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "mount": (165, 40),
    "umount2": (166, 39),
    "open_by_handle_at": (304, 265),
    "socket": (41, 198),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_writev": (311, 271),
}
"""{call: (number on x86-64, on aarch64)}; refused always."""
_FIRST_YOUNG = 424
"""Calls from here on are younger than Linux 5.1: they have one number on all machines, and programs do without them."""


def confine() -> tuple[str, ...]:
    """Give up these rights for good, in this process. Returns the names of the means that hold.

    Landlock binds this thread and the threads that it starts; seccomp and rlimit bind the whole process.
    """
    # This order: once seccomp holds, it refuses the calls that Landlock is made of (they are young).
    layers = {"landlock": landlock, "seccomp": seccomp, "rlimit": rlimit}
    return tuple(name for name, holds in layers.items() if holds())


def landlock() -> bool:
    """Refuse writing, TCP and signals by the object; whether the kernel has Landlock and it holds."""
    if sys.platform != "linux":
        return False
    version = _syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return False
    # Why by version: a kernel refuses the whole ruleset where it does not know one of the rights.
    rights = (sum(bits for since, bits in table if since <= version) for table in (_ACCESS_FS, _ACCESS_NET, _SCOPES))
    # struct landlock_ruleset_attr; an older kernel takes a longer one if the rest is 0.
    ruleset = struct.pack("=3Q", *rights)
    handle = _syscall(_LANDLOCK_CREATE_RULESET, ruleset, len(ruleset), 0)
    if handle < 0:
        return False
    # Why no rule is added: each rule would allow something, and a ruleset without one allows nothing that it handles.
    holds = _no_new_privileges() and _syscall(_LANDLOCK_RESTRICT_SELF, handle, 0) == 0
    os.close(handle)
    return holds


def seccomp() -> bool:
    """Refuse the system calls of the tables above; whether the kernel has seccomp and it holds."""
    machine = platform.machine()
    # Why the size: a 32-bit program on a 64-bit kernel has call numbers of its own.
    if sys.platform != "linux" or machine not in _MACHINES or sys.maxsize < 2**32:
        return False
    instructions = b"".join(_filter(machine))
    program = ctypes.create_string_buffer(instructions, len(instructions))
    # struct sock_fprog: how many instructions of 8 bytes, and where they lie
    argument = struct.pack("@HP", len(instructions) // 8, ctypes.addressof(program))
    call = _MACHINES[machine][1]
    # Why TSYNC: libraries have started threads before, and without it those would keep their rights.
    return _no_new_privileges() and not _syscall(call, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, argument)


def rlimit() -> bool:
    """Let no file grow beyond 0 bytes, and no crash leave a core; whether the system has such limits."""
    if sys.platform == "win32":
        return False
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return True


def _filter(machine: str) -> Iterator[bytes]:
    """The filter's instructions: each is a struct sock_filter of classic BPF over struct seccomp_data.

    A jump skips as many of the following instructions as it says.
    """
    architecture, _, column = _MACHINES[machine]
    refuse, allow = _return(_RET_ERRNO | errno.EPERM), _return(_RET_ALLOW)
    number, flags_of = 0, (16, 24, 32)  # offsets: of the call's number, and of its first three arguments
    # Why the architecture first: x86-64 kernels also take 32-bit calls, where the same numbers mean other calls.
    yield from (_load(4), _jump_if_equal(architecture, then=1, otherwise=0), refuse)
    yield _load(number)
    # Why ENOSYS, and not EPERM: the C library then does the same by an older call, which the table judges. This also
    # refuses the calls of the x32 interface, whose numbers begin at 2^30.
    yield from (_jump_if_at_least(_FIRST_YOUNG, then=0, otherwise=1), _return(_RET_ERRNO | errno.ENOSYS))
    for calls in _OPENING.values():
        call = calls[column]
        if call is not None:
            # Why by flags: reading opens files too. The flags of openat2 lie in memory, where a filter cannot see them;
            # it is one of the young calls.
            yield _jump_if_equal(call, then=0, otherwise=4)
            yield from (_load(flags_of[calls[2]]), _jump_if_any_bit(_TO_WRITE, then=0, otherwise=1), refuse, allow)
    for names in _REFUSED.values():
        call = names[column]
        if call is not None:
            yield from (_jump_if_equal(call, then=0, otherwise=1), refuse)
    yield allow


def _load(offset: int) -> bytes:
    return _instruction(0x20, 0, 0, offset)  # BPF_LD | BPF_W | BPF_ABS


def _jump_if_equal(value: int, *, then: int, otherwise: int) -> bytes:
    return _instruction(0x15, then, otherwise, value)  # BPF_JMP | BPF_JEQ | BPF_K


def _jump_if_at_least(value: int, *, then: int, otherwise: int) -> bytes:
    return _instruction(0x35, then, otherwise, value)  # BPF_JMP | BPF_JGE | BPF_K


def _jump_if_any_bit(bits: int, *, then: int, otherwise: int) -> bytes:
    return _instruction(0x45, then, otherwise, bits)  # BPF_JMP | BPF_JSET | BPF_K


def _return(value: int) -> bytes:
    return _instruction(0x06, 0, 0, value)  # BPF_RET | BPF_K


def _instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _no_new_privileges() -> bool:
    """Both means ask this of a process that is not root: it gains no privilege by starting a program."""
    return bool(_c_library().prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))) == 0)


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    """The call's result; -1 where the kernel refuses it or does not know it."""
    syscall = _c_library().syscall
    syscall.restype = ctypes.c_long
    # Why wide: without a type, ctypes passes 32 bits, and the upper half of the register is undefined.
    wide = (ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments)
    return int(syscall(ctypes.c_long(number), *wide))


def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
