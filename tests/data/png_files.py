"""PNG files written from their definition, since Pillow writes few of the kinds that it reads."""

import struct
import zlib
from pathlib import Path


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def write_png(
    path: Path, depth: int, colour: int, rows: list[bytes], width: int, behind: bytes = b""
) -> Path:
    head = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + behind + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path
