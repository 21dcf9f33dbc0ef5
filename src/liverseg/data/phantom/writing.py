"""The folder of pairs that the phantom fills, whole or not at all."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from torch import Tensor

from liverseg.data.phantom.drawing import RECIPE, draw_patient

SPLITS = ("train", "val", "test")


def write_phantom(
    folder: Path,
    *,
    num_patients: Sequence[int],
    slices_per_patient: int,
    image_size: int,
    seed: int,
) -> None:
    """Fill ``folder`` with train, val and test pairs of drawn patients, unless it is full already.

    A pair is ``patientPPP_sliceSS.png`` and ``patientPPP_sliceSS_mask.png`` (0 and 255). Patients
    are numbered through the splits, so none is in two. ``phantom.json`` beside the splits holds
    the arguments. The folder appears complete or not at all, also if two processes draw at once.

    Args:
        folder: Made if missing, with its parents.
        num_patients: Patients in train, val and test.
        slices_per_patient: Spread from above the liver to below it, or to the pelvis, so that some
            show none.
        image_size: Height and width in pixels.
        seed: Another seed draws other patients.

    Raises:
        ValueError: If an argument is out of range, or the folder holds anything else.
    """
    if len(num_patients) != len(SPLITS):
        raise ValueError(
            f"data.phantom.num_patients={list(num_patients)} must be three counts: train, val and "
            "test"
        )
    counts = {f"num_patients[{index}]": count for index, count in enumerate(num_patients)}
    for name, value, least, most in (
        *((name, count, 1, 10_000) for name, count in counts.items()),
        ("slices_per_patient", slices_per_patient, 1, 1000),
        ("image_size", image_size, 32, 4096),
        ("seed", seed, 0, 2**64),
    ):
        if not isinstance(value, int) or not least <= value <= most:
            raise ValueError(
                f"data.phantom.{name}={value} is not possible; set a whole number from {least} "
                f"to {most}"
            )
    asked: dict[str, int | list[int]] = {
        "recipe": RECIPE,
        "num_patients": list(num_patients),
        "slices_per_patient": slices_per_patient,
        "image_size": image_size,
        "seed": seed,
    }
    if folder.exists():
        _check_drawn(folder, asked)
        return

    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as workshop:
        # Drawn one level down, because the temporary folder itself is private to its owner.
        draft = Path(workshop) / folder.name
        patient_number = 0
        for split, count in zip(SPLITS, num_patients, strict=True):
            (draft / split).mkdir(parents=True)
            for _ in range(count):
                images, masks = draw_patient(
                    patient_number=patient_number,
                    num_slices=slices_per_patient,
                    image_size=image_size,
                    seed=seed,
                )
                for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
                    stem = draft / split / f"patient{patient_number:03d}_slice{index:02d}"
                    _save_png(image, Path(f"{stem}.png"))
                    _save_png(mask * 255, Path(f"{stem}_mask.png"))
                patient_number += 1
        (draft / "phantom.json").write_text(json.dumps(asked, indent=2) + "\n", encoding="utf-8")
        try:
            draft.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            _check_drawn(folder, asked)  # another process was faster: keep its copy


def _save_png(image: Tensor, path: Path) -> None:
    height, width = image.shape
    Image.frombytes("L", (width, height), image.contiguous().numpy().tobytes()).save(path)


def _check_drawn(folder: Path, asked: dict[str, int | list[int]]) -> None:
    try:
        found = json.loads((folder / "phantom.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"data.root={folder} holds no readable phantom.json, so no phantom is drawn into it; "
            "for pairs of your own add data=liver or data=pairs, for the phantom another folder"
        )
    for name, value in asked.items():
        if found.get(name) != value:
            key = name if name == "recipe" else f"data.phantom.{name}"
            raise ValueError(
                f"{folder} was drawn with {name}={found.get(name)}, but {key}={value} is asked "
                f"for; delete the folder or set data.root to another one"
            )


@dataclass(frozen=True)
class Phantom:
    """The arguments of :func:`write_phantom`, as ``configs/data/phantom.yaml`` names them."""

    num_patients: Sequence[int]
    slices_per_patient: int
    image_size: int
    seed: int

    def write(self, folder: Path) -> None:
        """Fill a folder with pairs, unless it is full already."""
        write_phantom(
            folder,
            num_patients=list(self.num_patients),
            slices_per_patient=self.slices_per_patient,
            image_size=self.image_size,
            seed=self.seed,
        )
