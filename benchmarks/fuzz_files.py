"""Read damaged image files by the thousand: each must be read or refused in one sentence.

    python benchmarks/fuzz_files.py [--files 10000] [--seed 0] [--keep FOLDER]

Small PNG, TIFF, JPEG, BMP and GIF files are damaged in their bytes and in their parts (PNG chunks
with the right checksum, TIFF entries, JPEG segments, fields of the BMP header), and each is read as
the header alone, as an image and as a mask; so are some files that are hostile by design. A table
counts what came of it; "changed" was read, but not as the whole file was. Exits with 1 if any
reading raised something else than the package's sentence with the path, took longer than
``--seconds`` or more than ``--megabytes``, or killed its process. Needs Linux, which tells the peak
of memory.
"""

import argparse
import hashlib
import io
import multiprocessing
import os
import random
import resource
import shutil
import struct
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image, ImageDraw

from liverseg.data import MaskReader, read_image, stored_size

SIZE = 48
PNG = b"\x89PNG\r\n\x1a\n"
MIB = 2**20
READINGS = ("header", "image", "mask")
OUTCOMES = ("read", "changed", "refused", "other", "slow", "memory", "killed")
FAULTS = OUTCOMES[3:]
# Numbers at which sizes, counts and offsets go wrong.
EDGES = (0, 1, 2, 7, 16, 127, 128, 255, 256, 12_000, 32_767, 65_535, 2**24, 2**31 - 1, 2**32 - 1)
MASKS = MaskReader(num_classes=1)


def originals() -> list[tuple[str, bytes]]:
    """Draw the files that are to be damaged: suffix and content of each."""
    noise = Image.frombytes("L", (SIZE, SIZE), random.Random(0).randbytes(SIZE * SIZE))
    disc = Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(disc).ellipse((10, 12, 34, 38), fill=255)
    deep = noise.convert("I").point(lambda value: value * 257).convert("I;16")
    tagged = Image.Exif()
    tagged[0x0112] = 6  # to be turned by a quarter
    files: list[tuple[str, bytes]] = []

    def add(suffix: str, picture: Image.Image, **options: object) -> None:
        content = io.BytesIO()
        picture.save(content, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix), **options)
        files.append((suffix, content.getvalue()))

    for picture in (noise, disc):
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
            add("png", picture.convert(mode))
        for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK"):
            add("tif", picture.convert(mode))
        for mode in ("1", "L", "P", "RGB", "RGBA"):
            add("bmp", picture.convert(mode))
        for mode in ("L", "RGB", "CMYK"):
            add("jpg", picture.convert(mode))
        for mode in ("1", "L", "P"):
            add("gif", picture.convert(mode))
        add("tif", picture.convert("F").point(lambda value: value * (1 / 255) + 0))
        add("png", picture, exif=tagged, icc_profile=b"profile", pnginfo=None)
        add("png", picture.quantize(4), bits=2, transparency=1)
        add("tif", picture, exif=tagged)
        add("jpg", picture.convert("RGB"), exif=tagged, progressive=True)
        for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
            add("tif", picture.convert("RGB"), compression=compression)
        add("tif", picture.convert("1"), compression="group4")
        add("tif", picture, save_all=True, append_images=[picture])
        add("png", picture, save_all=True, append_images=[noise, disc])
    for suffix in ("png", "tif"):
        add(suffix, deep)
    return files


def hostile(folder: Path) -> list[Path]:
    """Write files that are no accident: large ones, lying ones, and a pipe that nobody fills."""
    paths = {name: folder / f"{name}.png" for name in ("large", "short", "profile", "avif", "pipe")}
    Image.new("L", (11_500, 11_500)).save(paths["large"])  # 130 kB, and nearly all that is taken
    content = io.BytesIO()
    Image.new("L", (SIZE, SIZE // 2)).save(content, "png")
    header, *rest = png_chunks(content.getvalue())
    twice = header[1][:4] + struct.pack(">I", SIZE) + header[1][8:]  # rows that do not follow
    paths["short"].write_bytes(png_of([(header[0], twice), *rest]))
    paths["profile"].write_bytes(png_of([header, *rest[:-1], (b"iCCP", b""), rest[-1]]))
    with suppress(OSError, KeyError):  # Pillow is also built without this format
        Image.new("L", (SIZE, SIZE)).save(paths["avif"], "avif")
    os.mkfifo(paths["pipe"])
    return [path for path in paths.values() if path.exists()]


def damaged(suffix: str, content: bytes, chance: random.Random) -> bytes:
    """Return a file with one to three faults, in its bytes or in the parts of its format."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        harm = chance.choice((damage_bytes, PARTS[suffix]))
        # An earlier fault may leave no parts to be found: then bytes again.
        try:
            content = harm(content, chance)
        except (struct.error, IndexError, ValueError):
            content = damage_bytes(content, chance)
    return content


def damage_bytes(content: bytes, chance: random.Random) -> bytes:
    """Change, remove, repeat or insert bytes anywhere, or cut the end off."""
    start = chance.randrange(len(content) + 1)
    # Headers are short, and most decisions fall there.
    start = min(start, chance.choice((64, len(content))))
    end = min(len(content), start + chance.choice((1, 2, 4, 16, 300)))
    before, hit, after = content[:start], content[start:end], content[end:]
    return chance.choice(
        (
            lambda: before + bytes(byte ^ (1 << chance.randrange(8)) for byte in hit) + after,
            lambda: before + chance.randbytes(len(hit)) + after,
            lambda: before + bytes(len(hit)) + after,
            lambda: before + edge(len(hit), chance) + after,
            lambda: before + after,
            lambda: before + hit + hit + after,
            lambda: before + chance.randbytes(end - start) + hit + after,
            lambda: before,
        )
    )()


def edge(length: int, chance: random.Random) -> bytes:
    """Return a number of :data:`EDGES` in so many bytes, the high or the low one first."""
    order = chance.choice(("big", "little"))
    return (chance.choice(EDGES) % 256**length).to_bytes(length, order)


def damage_list(parts: list[tuple[bytes, bytes]], chance: random.Random) -> None:
    """Drop, repeat, swap, empty, cut or change one of the (name, content) parts, in place."""
    place = chance.randrange(len(parts))
    name, body = parts[place]
    match chance.randrange(6):
        case 0:
            del parts[place]
        case 1:
            parts.insert(chance.randrange(len(parts) + 1), parts[place])
        case 2:
            other = chance.randrange(len(parts))
            parts[place], parts[other] = parts[other], parts[place]
        case 3:
            parts[place] = name, b""
        case 4:
            parts[place] = name, body[: chance.randrange(len(body) + 1)]
        case _:
            parts[place] = name, damage_bytes(body, chance)


def png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a PNG file, name and body."""
    chunks, at = [], len(PNG)
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Return a PNG file of these chunks, with their checksums."""
    return PNG + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def damage_png(content: bytes, chance: random.Random) -> bytes:
    """Damage chunks, whose checksums are right again afterwards."""
    chunks = png_chunks(content)
    match chance.randrange(4):
        case 0:  # width, height, bits, colour type, compression, filter, interlacing
            name, header = chunks[0]
            place, length = chance.choice([(0, 4), (4, 4), *((byte, 1) for byte in range(8, 13))])
            number = edge(length, chance)
            chunks[0] = name, header[:place] + number + header[place + length :]
        case 1:
            names = b"PLTE tRNS iCCP eXIf acTL fcTL fdAT tEXt zTXt iTXt gAMA cHRM pHYs sRGB IEND"
            body = chance.randbytes(chance.choice((0, 0, 1, 2, 4, 9, 26, 600)))
            chunks.insert(chance.randrange(1, 3), (chance.choice(names.split()), body))
        case _:
            damage_list(chunks, chance)
    return png_of(chunks)


def damage_tiff(content: bytes, chance: random.Random) -> bytes:
    """Change an entry of the first directory: its tag, type, count or value; or where it ends."""
    (start,) = struct.unpack_from("<I", content, 4)
    (num_entries,) = struct.unpack_from("<H", content, start)
    at = start + 2 + 12 * chance.randrange(num_entries)
    place, length = chance.choice(((at, 2), (at + 2, 2), (at + 4, 4), (at + 8, 4), (at + 8, 2)))
    number = edge(length, chance)
    match chance.randrange(6):
        case 0:
            place, number = start, edge(2, chance)  # how many entries there are
        case 1:  # the next directory is this one
            place, number = start + 2 + 12 * num_entries, struct.pack("<I", start)
    return content[:place] + number + content[place + len(number) :]


def damage_jpeg(content: bytes, chance: random.Random) -> bytes:
    """Damage the segments before the scan; their lengths are mostly right again."""
    segments, at = [], 2
    while content[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", content, at + 2)
        segments.append((content[at : at + 2], content[at + 4 : at + 2 + length]))
        at += 2 + length
    damage_list(segments, chance)
    wrong = chance.choice((0, 0, 0, -2, 1, 500))
    return (
        content[:2]
        + b"".join(name + struct.pack(">H", len(body) + 2) + body for name, body in segments)
        + content[at : at + 2]
        + struct.pack(">H", struct.unpack_from(">H", content, at + 2)[0] + max(wrong, 0))
        + content[at + 4 :]
    )


def damage_bmp(content: bytes, chance: random.Random) -> bytes:
    """Change a field of the header: a size, an offset, bits, compression or number of colours."""
    place, length = chance.choice(
        ((2, 4), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (46, 4))
    )
    return content[:place] + edge(length, chance) + content[place + length :]


PARTS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "png": damage_png,
    "tif": damage_tiff,
    "jpg": damage_jpeg,
    "bmp": damage_bmp,
    "gif": damage_bytes,  # nearly all of a small one is header
}


def outcome(reading: str, path: Path) -> tuple[str, str]:
    """Return ``"read"`` and a digest of the pixels, ``"refused"`` or ``"other"`` and the words.

    A refusal is a ValueError of one line that holds the path.
    """
    try:
        if reading == "header":
            return "read", str(stored_size(path))
        pixels = read_image(path, 1) if reading == "image" else MASKS.read(path)
        return "read", hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest()
    except Exception as error:
        text = str(error)
        is_sentence = type(error) is ValueError and str(path) in text and "\n" not in text
        return ("refused", text) if is_sentence else ("other", f"{type(error).__name__}: {text}")


def serve(pipe: Connection, megabytes: int, judge: Callable[[str, Path], tuple[str, str]]) -> None:
    """Judge the files that come through a pipe; send back outcome, details and MiB at the peak."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff writes there by itself
    most = _memory("VmSize") + 4 * megabytes * MIB  # so that a mistake stops no machine
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with suppress(EOFError):
        while True:
            reading, path = pipe.recv()
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
            before = _memory("VmRSS")
            found = judge(reading, path)
            pipe.send((*found, (_memory("VmHWM") - before) // MIB))


def _memory(name: str) -> int:
    """Return a number of bytes that Linux tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


class Readers:
    """A process that reads, and another one in its place when it hangs or dies."""

    def __init__(
        self,
        *,
        seconds: float,
        megabytes: int,
        judge: Callable[[str, Path], tuple[str, str]] = outcome,
    ) -> None:
        self.seconds, self.megabytes, self.judge = seconds, megabytes, judge
        self.start()

    def start(self) -> None:
        """Start a process."""
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(theirs, self.megabytes, self.judge), daemon=True
        )
        self.process.start()
        theirs.close()

    def read(self, reading: str, path: Path) -> tuple[str, str]:
        """Return the outcome of a reading and its details, within the limits."""
        self.pipe.send((reading, path))
        if not self.pipe.poll(self.seconds):
            self.process.kill()
            self.process.join()
            self.start()
            return "slow", f"more than {self.seconds} s"
        try:
            kind, details, megabytes = self.pipe.recv()
        except EOFError:
            self.process.join()
            status = self.process.exitcode
            self.start()
            return "killed", f"exit status {status}"
        if megabytes > self.megabytes:
            return "memory", f"{megabytes} MiB, then {kind}: {details}"
        return kind, details


def main() -> int:
    """Print the table and what went wrong; return 1 if anything did."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0, help="longest time of a reading")
    parser.add_argument("--megabytes", type=int, default=1024, help="most memory of a reading")
    parser.add_argument("--keep", type=Path, help="folder for the files that went wrong")
    arguments = parser.parse_args()

    readers = Readers(seconds=arguments.seconds, megabytes=arguments.megabytes)
    counts: Counter[tuple[str, str, str]] = Counter()
    faults: Counter[str] = Counter()

    def count(row: str, path: Path, before: dict[str, tuple[str, str]]) -> None:
        for reading in READINGS:
            kind, details = found = readers.read(reading, path)
            if path.name == "short.png" and kind == "read" and reading != "header":
                kind, details = "other", "read, though half of its rows are missing"
            is_changed = kind == "read" and found != before.get(reading, found)
            counts[row, reading, "changed" if is_changed else kind] += 1
            if kind in FAULTS:
                file = path.name if row == "hostile" else f"{row} files"
                details = details.replace(str(path), "FILE")[:150]
                faults[f"{kind} ({file}, {reading}): {details}"] += 1
                if arguments.keep and path.is_file():
                    arguments.keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, arguments.keep / f"{kind}_{path.name}")

    with TemporaryDirectory() as name:
        folder = Path(name)
        files, whole = originals(), []
        for number, (suffix, content) in enumerate(files):
            path = folder / f"whole{number}.{suffix}"
            path.write_bytes(content)
            whole.append({reading: readers.read(reading, path) for reading in READINGS})
        for number in range(arguments.files):
            chance = random.Random(f"{arguments.seed} {number}")
            choice = chance.randrange(len(files))
            suffix, content = files[choice]
            path = folder / f"{number}.{suffix}"
            path.write_bytes(damaged(suffix, content, chance))
            count(suffix, path, whole[choice])
            path.unlink()
        for path in hostile(folder):
            count("hostile", path, {})

    print(f"{'':<15}" + "".join(f"{name:>9}" for name in OUTCOMES))
    for row in (*PARTS, "hostile"):
        for reading in READINGS:
            cells = (f"{counts[row, reading, name]:>9}" for name in OUTCOMES)
            print(f"{row + ' ' + reading:<15}" + "".join(cells))
    for fault, count in faults.most_common():
        print(f"{count:>6} x {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
