"""Frames as a client sends them, written as plainly as the standard puts it: the other side of what is tested."""

from mainspring.core.serve.frames import CLOSE

KEY = b"\x12\x34\x56\x78"


def client_frame(opcode: int, payload: bytes, fin: bool = True, key: bytes = KEY, first_bits: int = 0) -> bytes:
    length = len(payload)
    if length < 126:
        head = bytes([length | 0x80])
    elif length < 65536:
        head = bytes([126 | 0x80]) + length.to_bytes(2, "big")
    else:
        head = bytes([127 | 0x80]) + length.to_bytes(8, "big")
    masked = bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))
    return bytes([(0x80 if fin else 0) | first_bits | opcode]) + head + key + masked


def client_close(code: int, reason: str = "") -> bytes:
    return client_frame(CLOSE, code.to_bytes(2, "big") + reason.encode())
