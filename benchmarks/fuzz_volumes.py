"""Read damaged volumes by the thousand: each must be read or refused in one sentence.

    python benchmarks/fuzz_volumes.py [--files 5000] [--seed 0] [--keep FOLDER]

Small NIfTI files are damaged in their bytes and in the fields of their header, in front of
compression and behind it; of small DICOM series, one file is, in its bytes and in its tags, whose
values become what no scanner should write; so is an enhanced file and a DICOM SEG. Each is read as
a volume or a label. A table counts what came of it; "changed" was read, but not as the whole file
was. Exits with 1 if anything but the package's sentence with the path was raised, took longer than
``--seconds`` or more than ``--megabytes``, or killed its process. Needs Linux, which tells the peak
of memory.
"""

import argparse
import gzip
import hashlib
import random
import shutil
import struct
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from fuzz_files import EDGES, FAULTS, OUTCOMES, Readers, damage_bytes

from liverseg.data.volumes import ClassMap, find_volumes, read_label, read_source, slicing_of
from liverseg.data.volumes.dicom import read_header

SHAPE = (9, 8, 7)
HEADER = 348  # bytes of a NIfTI-1 header
# Fields of it: first byte, length, kind.
FIELDS = [
    *((0, 4, "i"), (70, 2, "h"), (72, 2, "h"), (108, 4, "f"), (112, 4, "f"), (116, 4, "f")),
    *((40 + 2 * place, 2, "h") for place in range(8)),
    *((76 + 4 * place, 4, "f") for place in range(8)),
    *((252, 2, "h"), (254, 2, "h"), (123, 1, "b"), (344, 4, "i")),
    *((256 + 4 * place, 4, "f") for place in range(18)),
]
FLOATS = (0.0, -1.0, 1e-30, 1e30, 3.4e38, float("nan"), float("inf"), 0.5, 1e6, 352.0)
TAGS = [
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "RescaleSlope"),
    *("RescaleIntercept", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"),
    *("SeriesInstanceUID", "SOPClassUID", "Modality", "ImageType", "SeriesNumber", "StudyTime"),
    *("InstanceNumber", "PixelPaddingValue", "PixelData", "SpecificCharacterSet", "PatientName"),
    *("ModalityLUTSequence", "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"),
]
VALUES = [
    *(
        b"",
        b"0 ",
        b"-1",
        b"abc ",
        b"1e400 ",
        b"nan ",
        b"1\\2\\3\\4 ",
        b"1\\\\",
        b"\\\\\\\\\\ ",
        b"1.5 ",
    ),
    *(
        b"\xff\xff",
        b"\0\0",
        b"\x01\0",
        b"\xff\xff\xff\xff",
        b"\x07" * 8,
        b"9" * 64,
        b"99999999999 ",
    ),
    *(
        b"0\\0\\0\\0\\0\\0 ",
        b"1\\0\\0\\1\\0\\0 ",
        b"0.0001\\1e9 ",
        b"RGB ",
        b"ISO_IR 999",
        b"\x00\x80",
    ),
]
SYNTAXES = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90", "1.2.3", "")
KINDS = ("nii", "nii.gz", "label", "series", "enhanced", "compressed", "seg")
COMPRESSIONS = ("RLELossless", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless")


def originals(folder: Path) -> None:
    """Write whole files: NIfTI volumes and labels, a series, an enhanced file, and a SEG."""
    import highdicom
    import nibabel
    import pydicom
    from pydicom.uid import generate_uid

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "data" / "volumes"))
    from scans import body, compress, organs, save_series, slices_of
    from test_segmentations import segment

    affine = np.diag([0.7, 0.7, 2.5, 1])
    noise = np.random.default_rng(0).integers(-1000, 1000, SHAPE)
    folder.mkdir()
    for number, kind in enumerate((np.int16, np.float32, np.int32, np.uint8)):
        image = nibabel.Nifti1Image(noise.astype(kind), affine)
        image.set_qform(affine, 1)
        nibabel.save(image, folder / f"{number}.nii")
        nibabel.save(image, folder / f"{number}.nii.gz")
    nibabel.save(nibabel.Nifti2Image(noise.astype(np.int16), affine), folder / "4.nii")
    nibabel.save(nibabel.Nifti1Image((noise > 0).astype(np.uint8), affine), folder / "label.nii")
    paths = save_series(folder / "series", slices_of(body()))
    for syntax in COMPRESSIONS:
        for path in save_series(folder / syntax, slices_of(body())):
            compress(path, syntax)
    segment(folder / "series", organs()).rename(folder / "seg.dcm")
    made = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        [pydicom.dcmread(path) for path in paths], generate_uid(), 1, generate_uid(), 1
    )
    made.save_as(folder / "enhanced.dcm")


def damaged_nifti(content: bytes, chance: random.Random) -> bytes:
    """Change fields of the header, or bytes anywhere."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        if chance.random() < 0.7:
            start, length, kind = chance.choice(FIELDS)
            if kind == "f":
                value = struct.pack("<f", chance.choice(FLOATS))
            else:
                value = (chance.choice(EDGES) % 256**length).to_bytes(length, "little")
            content = content[:start] + value + content[start + length :]
        else:
            content = damage_bytes(content, chance)
    return content


def damaged_dicom(path: Path, chance: random.Random, *, by_tags: float = 0.6) -> None:
    """Give tags values that they should not have, or change bytes anywhere."""
    import pydicom
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag
    from pydicom.uid import ImplicitVRLittleEndian

    if chance.random() < by_tags:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        places = [dataset]
        for name in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
            for group in dataset.get(name) or ():
                places += [
                    group,
                    *(one for element in group if element.VR == "SQ" for one in element),
                ]
        for _ in range(chance.choice((1, 1, 2, 3))):
            place, tag = chance.choice(places), Tag(chance.choice(TAGS))
            if chance.random() < 0.2:
                place.pop(tag, None)
            else:  # as bytes: what reads them looks up what they should be
                value = chance.choice(VALUES)
                place[tag] = RawDataElement(tag, None, len(value), value, 0, True, True)
        if chance.random() < 0.1:
            dataset.file_meta.TransferSyntaxUID = chance.choice(SYNTAXES)
        try:
            pydicom.dcmwrite(path, dataset, implicit_vr=True, little_endian=True)
            return
        except Exception:  # nothing that can be written
            pass
    content = path.read_bytes()
    behind = content.rfind(b"\xe0\x7f\x10\x00") if by_tags < 0.5 else 0  # the pixels
    start = max(0, behind) if chance.random() < 0.8 else 0
    path.write_bytes(content[:start] + damage_bytes(content[start:], chance))


def damage(kind: str, whole: Path, folder: Path, chance: random.Random) -> Path:
    """Write a damaged file, or a series with one, into a folder, and return its path."""
    if kind in ("nii", "label"):
        source = whole / (f"{chance.randrange(5)}.nii" if kind == "nii" else "label.nii")
        (folder / "a.nii").write_bytes(damaged_nifti(source.read_bytes(), chance))
        return folder / "a.nii"
    if kind == "nii.gz":
        content = (whole / f"{chance.randrange(4)}.nii.gz").read_bytes()
        if chance.random() < 0.6:
            content = gzip.compress(damaged_nifti(gzip.decompress(content), chance))
        else:
            content = damage_bytes(content, chance)
        (folder / "a.nii.gz").write_bytes(content)
        return folder / "a.nii.gz"
    if kind in ("series", "compressed"):
        source = whole / ("series" if kind == "series" else chance.choice(COMPRESSIONS))
        shutil.copytree(source, folder / "a")
        # What is decoded by others is damaged in its bytes, and mostly behind the header.
        path = chance.choice(sorted((folder / "a").iterdir()))
        damaged_dicom(path, chance, by_tags=0.6 if kind == "series" else 0.2)
        return folder / "a"
    path = Path(shutil.copy(whole / f"{kind}.dcm", folder / "a.dcm"))
    damaged_dicom(path, chance)
    return path


def judge_in(whole: Path) -> Callable[[str, Path], tuple[str, str]]:
    """Return what reads a file, and says what came of it."""

    def judge(kind: str, path: Path) -> tuple[str, str]:
        try:
            if kind in ("label", "seg"):
                source = whole / ("0.nii" if kind == "label" else "series")
                volume = read_source(find_volumes(source)[0])
                header = path if kind == "label" else read_header(path)
                if header is None:
                    raise ValueError(f"{path} holds no slices")
                voxels, _ = read_label(header, volume, ClassMap(None), 0.01, None)
            else:
                (source, *_) = find_volumes(path)
                volume = read_source(source)
                voxels = slicing_of(volume).cut(volume.voxels)
            numbers = np.ascontiguousarray(voxels)
            return "read", hashlib.sha256(
                repr(numbers.shape).encode() + numbers.tobytes()
            ).hexdigest()
        except Exception as error:
            text = str(error)
            is_sentence = type(error) is ValueError and str(path) in text and "\n" not in text
            return (
                ("refused", text) if is_sentence else ("other", f"{type(error).__name__}: {text}")
            )

    return judge


def main() -> int:
    """Print the table and what went wrong; return 1 if anything did."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0, help="longest time of a reading")
    parser.add_argument("--megabytes", type=int, default=1024, help="most memory of a reading")
    parser.add_argument("--keep", type=Path, help="folder for the files that went wrong")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")

    counts: Counter[tuple[str, str]] = Counter()
    faults: Counter[str] = Counter()
    with TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        originals(whole)
        judge = judge_in(whole)
        readers = Readers(seconds=arguments.seconds, megabytes=arguments.megabytes, judge=judge)
        before = {judge("nii", path)[1] for path in sorted(whole.glob("*.nii*"))}
        before |= {judge("series", whole / "series")[1], judge("nii", whole / "enhanced.dcm")[1]}
        before |= {
            judge(kind, whole / file)[1]
            for kind, file in (("label", "label.nii"), ("seg", "seg.dcm"))
        }
        for number in range(arguments.files):
            chance = random.Random(f"{arguments.seed} {number}")
            folder = Path(name) / str(number)
            folder.mkdir()
            kind = chance.choice(KINDS)
            path = damage(kind, whole, folder, chance)
            outcome, details = readers.read(kind, path)
            is_changed = outcome == "read" and details not in before
            counts[kind, "changed" if is_changed else outcome] += 1
            if outcome in FAULTS:
                faults[f"{outcome} ({kind}): {details.replace(str(path), 'FILE')[:200]}"] += 1
                if arguments.keep:
                    arguments.keep.mkdir(parents=True, exist_ok=True)
                    folder.rename(arguments.keep / f"{outcome}_{kind}_{number}")
            shutil.rmtree(folder, ignore_errors=True)

    print(f"{'':<15}" + "".join(f"{name:>9}" for name in OUTCOMES))
    for kind in KINDS:
        print(f"{kind:<15}" + "".join(f"{counts[kind, name]:>9}" for name in OUTCOMES))
    for fault, count in faults.most_common():
        print(f"{count:>6} x {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
