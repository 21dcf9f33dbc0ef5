"""The folder of the data and the folders of the run."""

from pathlib import Path

from liverseg.data import IMAGE_SUFFIXES, TABLE, PairDataModule, PairFolders, renamed_split
from liverseg.settings import what_blocks
from liverseg.settings.classes import Plain, class_nodes, find_target

_WRITTEN = ("folder", "dirpath", "save_dir", "default_root_dir")


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
    folders = PairFolders(root, mask_suffix=data.get("mask_suffix", "_mask"))
    for split in splits:
        if not folders.has(split):
            if folders.is_by_table:
                raise ValueError(
                    f"{root / TABLE} puts no image into {split}; write {split} into its column "
                    "split"
                )
            found = sorted(f"{one.name}/" for one in root.iterdir() if one.is_dir())
            shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "") or "no folder"
            other = ", or divide train/ itself: fold=0" if split == "val" else ""
            if (
                split == "train"
                and _holds_images(root)
                and root.name not in ("train", "val", "test")
            ):
                again = "" if folders.table is None else " overwrite=true"
                other = f", or divide it: python split.py data.root={root}{again}"
            remedy = renamed_split(root, split) or f"name the folder that holds {needed}{other}"
            raise ValueError(f"data.root={root} holds no folder {split}/ (found {shown}); {remedy}")


def _holds_images(root: Path) -> bool:
    """Tell whether images lie in a folder itself, or in its images/."""
    folders = [folder for folder in (root, root / "images") if folder.is_dir()]
    return any(one.suffix.lower() in IMAGE_SUFFIXES for each in folders for one in each.iterdir())


def check_written(plain: Plain) -> None:
    """Refuse a folder that cannot be written, where a run writes into one."""
    folders = {"output_dir": plain.get("output_dir")}
    for section in ("callbacks", "logger", "trainer"):
        for key, node in class_nodes(plain.get(section), section):
            folders |= {f"{key}.{name}": node[name] for name in _WRITTEN if name in node}
    for key, folder in folders.items():
        if isinstance(folder, str) and folder != "???" and (reason := what_blocks(Path(folder))):
            raise ValueError(f"{key}={folder} cannot be written, {reason}; name another folder")
