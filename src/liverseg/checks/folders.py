"""The folder of the data and the folder of the run."""

import tempfile
from pathlib import Path

from liverseg.data import PairDataModule
from liverseg.settings import what_blocks
from liverseg.settings.classes import Plain, find_target


def check_root(plain: Plain) -> None:
    """Refuse a data folder without train/ or, where it is not divided into folds, val/."""
    data = plain["data"]
    if find_target("data", data["_target_"]) is not PairDataModule or data.get("root") in (
        None,
        "???",
    ):
        return
    root = Path(data["root"])
    is_divided = data.get("fold") is not None
    splits = ("train",) if is_divided else ("train", "val")
    needed = " and ".join(f"{split}/" for split in splits)
    if data.get("phantom") is not None:
        if not root.is_dir() and (reason := what_blocks(root)):
            raise ValueError(f"data.root={root} cannot be written, {reason}; name another folder")
        return
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"data.root={root} {what}; name the folder that holds {needed}")
    for split in splits:
        if not (root / split).is_dir():
            found = sorted(f"{one.name}/" for one in root.iterdir() if one.is_dir())
            shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "") or "no folder"
            other = ", or divide train/ itself: fold=0" if split == "val" else ""
            raise ValueError(
                f"data.root={root} holds no folder {split}/ (found {shown}); name the folder that "
                f"holds {needed}{other}"
            )


def check_output(plain: Plain) -> None:
    """Refuse an output folder that cannot be written, by trying it."""
    if "output_dir" not in plain or plain["output_dir"] == "???":
        return
    folder = Path(plain["output_dir"])
    reason = what_blocks(folder)
    try:
        if reason is None:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        reason = error.strerror or str(error)
    if reason is not None:
        raise ValueError(f"output_dir={folder} cannot be written, {reason}; name another folder")
