"""NIfTI files in and out."""

import gzip
import logging
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from liverseg.data.arrays import Numbers
from liverseg.data.volumes.geometry import (
    Affine,
    Volume,
    axes_of,
    check_affine,
    spacing_of,
    tell_no_thickness,
)
from liverseg.files import written_whole

NIFTI_SUFFIXES = (".nii", ".nii.gz")
_MOST_DEFLATED = 1032  # bytes out of one; deflate cannot do more
_MOST_VOXELS = 2**32
_DISAGREE = 1e-2  # mm at the corners, from where on the two transforms of a header are told
# Bytes of a header, and where and how it says where voxels begin: NIfTI-1, NIfTI-2.
_HEADS = ((348, 108, "f"), (540, 168, "q"))
_GZIP = b"\x1f\x8b"
_MOST_BEFORE = 2**26  # bytes before the voxels
_HAIR = 1e-3  # by which a label may be off a whole number
_CHUNK = 2**22  # bytes read at once
_MARK = b"liverseg"  # in the description of what a prediction wrote
_MOST_VALUE = float(np.finfo(np.float32).max)
_UNITS = {"meter": 1000.0, "micron": 0.001}  # to millimetres
_LARGEST_VOXEL = 50.0  # mm; where metres make more of it, programs have written the wrong unit
_AXES = ("LR", "AP", "IS")
logger = logging.getLogger(__name__)


def _is_said_by_nibabel_alone(record: logging.LogRecord) -> bool:
    """Tell whether nibabel, which names no file, says what this package does not say itself."""
    is_zero_spacing = record.getMessage().startswith("pixdim[1,2,3] should be non-zero")
    return record.levelno < logging.ERROR and not is_zero_spacing


logging.getLogger("nibabel.global").addFilter(_is_said_by_nibabel_alone)


def is_nifti(path: Path) -> bool:
    """Tell whether a file is NIfTI by its name."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def without_ending(path: Path) -> str:
    """Return a file's name without ``.nii``, ``.nii.gz`` or another ending."""
    return path.name[: -len(_ending(path))] if is_nifti(path) else path.stem


def _ending(path: Path) -> str:
    return ".nii.gz" if path.name.lower().endswith(".gz") else ".nii"


def is_prediction(path: Path) -> bool:
    """Tell whether :func:`write_label` wrote a file as ``NAME_prediction``."""
    import nibabel

    if not without_ending(path).endswith("_prediction"):
        return False
    try:
        header = nibabel.load(path).header
        return bool(header["descrip"].item() == _MARK)  # type: ignore[index]
    except Exception:  # damaged, in whichever way: it will be named when it is read
        return False


def read_nifti(path: Path, assume: str | None = None) -> Volume:
    """Read a NIfTI volume whole, as numbers of its own kind where it has no scaling.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file.
        assume: Where the axes point to, such as ``RAS``, in files that do not say.

    Raises:
        ValueError: If it cannot be read, holds more than one volume, colours, or no orientation.
    """
    image = _opened(path)
    voxels = _three_axes(_values(image, path), path)
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        count = int((~np.isfinite(voxels)).sum())
        raise ValueError(
            f"{path} holds {count:,} voxels that are no numbers (NaN or infinite); replace them, "
            "with air for example"
        )
    low, high = float(voxels.min()), float(voxels.max())
    if max(-low, high) > _MOST_VALUE:
        raise ValueError(
            f"{path} holds values from {low:g} to {high:g}, which no scanner gives; restore it"
        )
    affine = _affine(image, path, assume)
    # Of an image with two axes, 1 mm is what programs fill in.
    has_thickness = len(image.shape) > 2 or abs(spacing_of(affine)[2] - 1) > 1e-6
    if not has_thickness:
        tell_no_thickness(path)
    return Volume(path, voxels, affine, has_thickness=has_thickness)


def read_nifti_label(path: Path, assume: str | None = None) -> tuple[Numbers, Affine]:
    """Read a NIfTI label map as uint16, and its affine.

    Raises:
        ValueError: If it cannot be read, or a value is no whole number in 0 ... 65535.
    """
    image = _opened(path)
    voxels = _three_axes(_values(image, path), path)
    label = np.empty(voxels.shape, np.uint16)
    for place in range(voxels.shape[2]):
        values = voxels[..., place]
        with np.errstate(invalid="ignore"):  # infinite
            whole = values if values.dtype.kind in "iu" else np.round(values)
            # scl_slope makes 0.99999 of a 1; NaN is near to nothing
            is_label = (np.abs(values - whole) <= _HAIR) & (whole >= 0) & (whole <= 65535)
        if not is_label.all():
            raise ValueError(
                f"{path} is a label map that holds {values[~is_label].flat[0]:g}; labels are whole "
                "numbers in 0 ... 65535"
            )
        label[..., place] = whole
    return label, _affine(image, path, assume)


def check_axes(assume: str | None) -> None:
    """Refuse what is to be assumed of axes where it does not name each direction once.

    Raises:
        ValueError: If it does not.
    """
    lines = sorted(line for code in assume or "" for line in _AXES if code in line)
    if assume is not None and (len(assume) != 3 or lines != sorted(_AXES)):
        raise ValueError(f"assume={assume} must name each direction once, such as RAS or LPS")


def write_label(file: Path, label: Numbers, volume: Volume) -> None:
    """Write class indices as a NIfTI label map with the geometry of a volume, voxel for voxel.

    Of a NIfTI source the shape and the header are kept: both transforms with their codes, spacing
    and units. The axes of a DICOM series are written as both.

    Args:
        file: The file, ``.nii`` or ``.nii.gz``; it appears whole or not at all.
        label: Class indices, uint8 of the volume's shape.
        volume: What was segmented.
    """
    import nibabel

    if is_nifti(volume.path):
        source: Any = nibabel.load(volume.path)
        label = label.reshape(source.shape)  # of two axes, or of a fourth one of length 1
        header = source.header.copy()
        header["cal_max"] = header["cal_min"] = 0  # of the image's grey
        kind, affine = type(source), source.affine
        if kind.__name__ not in ("Nifti1Image", "Nifti2Image"):
            kind = nibabel.Nifti1Image
    else:
        kind, affine, header = nibabel.Nifti1Image, volume.affine, None
    image = kind(label, affine, header)
    image.set_data_dtype(np.uint8)
    image.header.set_slope_inter(1, 0)
    image.header["descrip"] = _MARK
    if header is None:
        image.set_sform(affine, 1)
        image.set_qform(affine, 1)
        image.header.set_xyzt_units("mm")
    with written_whole(file, _ending(file)) as draft:
        nibabel.save(image, draft)


def promised_bytes(path: Path) -> int:
    """Return how many bytes the voxels of a file take as they are stored.

    Raises:
        ValueError: If it cannot be read.
    """
    image = _opened(path)
    return math.prod(int(size) for size in image.shape) * int(image.get_data_dtype().itemsize)


def promised_voxels(path: Path) -> int:
    """Return the number of voxels that a header promises; 0 where it cannot be read."""
    try:
        return math.prod(int(size) for size in _opened(path).shape)
    except ValueError:
        return 0


def _opened(path: Path) -> Any:
    """Open a NIfTI file; the voxels are not read yet."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    if not path.is_file():
        raise ValueError(f"{path} is no regular file; name a NIfTI file")
    _check_head(path)
    try:
        image = nibabel.load(path)
        shape, dtype = image.shape, image.get_data_dtype()  # type: ignore[attr-defined]
    except (ImageFileError, Exception) as error:
        raise _unreadable(path, error) from error
    if dtype.fields is not None or dtype.kind == "c":
        raise ValueError(f"{path} holds colours or complex numbers; save one number per voxel")
    count = math.prod(int(size) for size in shape)
    stored = path.stat().st_size * (_MOST_DEFLATED if _ending(path) == ".nii.gz" else 1)
    if min(shape, default=0) < 1 or count > _MOST_VOXELS or count * dtype.itemsize > stored:
        raise ValueError(
            f"{path} promises {' x '.join(map(str, shape)) or 'no'} voxels of {dtype.itemsize} "
            f"bytes in a file of {path.stat().st_size:,} bytes; it is cut short or damaged: "
            "restore it"
        )
    return image


def _check_head(path: Path) -> None:
    """Refuse a file whose voxels, or what lies before them, begin out of all proportion.

    nibabel reads up to there, and as much of an extension as that says it has.
    """
    is_gzip = _ending(path) == ".nii.gz"
    with path.open("rb") as plain:
        start = plain.read(2)
    if len(start) == 2 and (start == _GZIP) != is_gzip:
        ending = ".nii" if is_gzip else ".nii.gz"
        raise ValueError(
            f"{path} is {'not ' if is_gzip else ''}compressed, other than its name says; rename it "
            f"to {without_ending(path)}{ending}, or restore it"
        )
    try:
        with gzip.open(path, "rb") if is_gzip else path.open("rb") as stream:
            head = stream.read(_HEADS[1][0])
            for size, place, code in _HEADS:
                for order in "<>":
                    if len(head) >= size and struct.unpack(f"{order}i", head[:4])[0] == size:
                        (offset,) = struct.unpack_from(order + code, head, place)
                        stream.seek(size)
                        told = stream.read(4)
                        _check_extensions(stream.read, size + 4, float(offset), order, told)
                        return
    except (EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error
    except (OSError, struct.error):
        return  # nibabel says what is wrong
    except OverflowError as error:
        raise ValueError(
            f"{path} says that its voxels begin out of all proportion ({error}); it is damaged: "
            "restore it"
        ) from None


def _check_extensions(
    read: Callable[[int], bytes], place: int, offset: float, order: str, told: bytes
) -> None:
    if not offset <= _MOST_BEFORE:  # NaN too
        raise OverflowError(f"behind {offset:g} bytes")
    while told[:1] != b"\0" and place + 8 <= offset:
        content = read(8)
        if len(content) < 8:
            return
        (size,) = struct.unpack(f"{order}i", content[:4])
        if size < 8 or place + size > offset:
            raise OverflowError(f"an extension of {size} bytes before {offset:g}")
        read(size - 8)
        place += size


def _values(image: Any, path: Path) -> Numbers:
    """Return the voxels as what they mean: whole numbers where they are, else float32."""
    try:
        stored: Numbers = np.asanyarray(image.dataobj.get_unscaled())
        if _ending(path) == ".nii.gz":
            with gzip.open(path, "rb") as stream:  # to its end, where the checksum is
                while stream.read(_CHUNK):
                    pass
        slope, intercept = image.dataobj.slope, image.dataobj.inter
        if slope == 1 and intercept == 0:
            return stored
        return rescaled(stored, float(slope), float(intercept))
    except MemoryError:
        raise
    except Exception as error:  # gzip, zlib and nibabel have a dozen kinds for a damaged file
        raise _unreadable(path, error) from error


def rescaled(stored: Numbers, slope: float, intercept: float) -> Numbers:
    """Return slope * stored + intercept, as int16 or int32 where whole numbers stay whole."""
    is_whole = stored.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer()
    if is_whole and stored.size:
        ends = [slope * float(one) + intercept for one in (stored.min(), stored.max())]
        for kind in (np.int16, np.int32):
            info = np.iinfo(kind)
            if info.min <= min(ends) and max(ends) <= info.max:
                wide: Numbers = stored.astype(np.int64 if stored.dtype.itemsize > 2 else np.int32)
                np.multiply(wide, int(slope), out=wide)
                np.add(wide, int(intercept), out=wide)
                return wide.astype(kind, copy=False)
    values = stored.astype(np.float32)
    np.multiply(values, np.float32(slope), out=values)
    np.add(values, np.float32(intercept), out=values)
    return values


def _three_axes(voxels: Numbers, path: Path) -> Numbers:
    """Return an array of three axes; a fourth one of several volumes is refused."""
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim > 3:
        raise ValueError(
            f"{path} holds {' x '.join(map(str, voxels.shape))} voxels, several volumes in one; "
            "save each as a file of its own"
        )
    return voxels.reshape(voxels.shape + (1,) * (3 - voxels.ndim))


def _affine(image: Any, path: Path, assume: str | None) -> Affine:
    """Return the affine of a file: its sform, or its qform, or what is to be assumed."""
    header = image.header
    affine: Affine = np.array(image.affine, np.float64)
    if hasattr(header, "get_sform"):
        sform, sform_code = header.get_sform(coded=True)
        qform, qform_code = _qform(header, path)
        if not sform_code and not qform_code:
            if assume is None:
                raise ValueError(
                    f"{path} does not say how it lies in space (sform and qform are not set); set "
                    "assume=..., such as assume=LAS, where its axes are known to point"
                )
            affine = _assumed(assume, [float(one) for one in header.get_zooms()[:3]])
        elif sform_code and qform_code and qform is not None:
            corners = np.array(np.meshgrid(*((0, size - 1) for size in image.shape[:3])))
            ends = np.vstack([corners.reshape(len(corners), -1), np.ones(corners[0].size)])
            while len(ends) < 4:
                ends = np.insert(ends, len(ends) - 1, 0, axis=0)
            apart = float(np.abs((sform - qform) @ ends).max())
            if apart > _DISAGREE:
                logger.warning(
                    "%s has two geometries, %.3g mm apart: the sform (%s, origin %s), which is "
                    "taken, and the qform (%s, origin %s)",
                    *(path, apart, axes_of(sform), _origin(sform)),
                    *(axes_of(qform), _origin(qform)),
                )
        if not sform_code:
            is_zero = _stored_spacing(path, header)[: image.ndim] == 0
            affine[:3, np.flatnonzero(is_zero)] = 0
    affine = _in_mm(header, affine)
    check_affine(path, affine)
    return affine


def _stored_spacing(path: Path, header: Any) -> Numbers:
    """Return the spacing along three axes as it is stored; of 0, nibabel makes 1 as it loads."""
    with gzip.open(path) if _ending(path) == ".nii.gz" else path.open("rb") as stream:
        stored = type(header)(stream.read(header.template_dtype.itemsize), check=False)
    spacing: Numbers = stored["pixdim"][1:4]
    return spacing


def _in_mm(header: Any, affine: Affine) -> Affine:
    """Return an affine in millimetres, where a header says metres or microns and may mean it."""
    try:
        scale = _UNITS.get(header.get_xyzt_units()[0], 1.0)
    except (AttributeError, KeyError):  # of Analyze; no unit that there is
        return affine
    if scale == 1 or not max(spacing_of(affine)) * scale <= _LARGEST_VOXEL:
        return affine
    scaled = affine.copy()
    scaled[:3] *= scale
    return scaled


def _qform(header: Any, path: Path) -> tuple[Any, int]:
    try:
        qform, code = header.get_qform(coded=True)
    except Exception:  # no quaternion; the sform may be good all the same
        return None, 0
    return qform, int(code)


def _assumed(assume: str, zooms: list[float]) -> Affine:
    """Return the affine of axes that point as told, with the origin at the first voxel."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (code, zoom) in enumerate(zip(assume, zooms + [1.0] * (3 - len(zooms)), strict=True)):
        world = next(place for place, line in enumerate(_AXES) if code in line)
        affine[world, axis] = zoom if code in "RAS" else -zoom
    return affine


def _origin(affine: Affine) -> str:
    return f"({', '.join(f'{one:.4g}' for one in affine[:3, 3])})"


def _unreadable(path: Path, error: BaseException) -> ValueError:
    reason = " ".join(str(error).split()) or type(error).__name__
    if reason.startswith("Cannot work out file type"):
        reason = "it is cut short, damaged or of another kind"
    if isinstance(error, zlib.error | EOFError):
        reason = f"{reason}; it is cut short or damaged"
    return ValueError(f"{path} cannot be read as NIfTI ({reason[:200]}); restore it")
