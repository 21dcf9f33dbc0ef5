import hashlib
import json
import logging
import os
import re
from pathlib import Path

import pytest
from PIL import Image
from serving import module_of

from liverseg.data.fingerprints import FileHashes, hash_of_sizes
from liverseg.data.pairs import find_pairs


def refusal(root: Path, split: str) -> str:
    return "^" + re.escape(
        f"the pairs in {root / split} are not those that the run began with; restore them, or "
        "start a new run"
    )


def replace_keeping_size_and_time(file: Path, content: bytes) -> None:
    before = file.stat()
    assert len(content) == before.st_size
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def age(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files of a folder be older than the moment in which nothing is kept."""
    monkeypatch.setattr("liverseg.data.fingerprints._SETTLED_SECONDS", -1.0)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("which", ["image", "mask"])
def test_a_byte_changed_at_equal_name_size_and_time_is_refused(pair_root, split, which):
    state = module_of(pair_root).state_dict()
    module_of(pair_root).load_state_dict(state)
    file = getattr(find_pairs(pair_root / split)[1], which)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    replace_keeping_size_and_time(file, bytes(content))
    with pytest.raises(ValueError, match=refusal(pair_root, split)):
        module_of(pair_root).load_state_dict(state)


def test_blanked_masks_of_equal_size_are_refused(pair_root):
    for pair in find_pairs(pair_root / "train"):
        with Image.open(pair.mask) as mask:
            mask.save(pair.mask.with_suffix(".bmp"))
            mask.point(lambda value: 0).save(pair.mask.with_suffix(".blank"), format="BMP")
        sizes = {pair.mask.with_suffix(one).stat().st_size for one in (".bmp", ".blank")}
        assert len(sizes) == 1
        pair.mask.with_suffix(".bmp").replace(pair.mask)
    state = module_of(pair_root).state_dict()
    for pair in find_pairs(pair_root / "train"):
        replace_keeping_size_and_time(pair.mask, pair.mask.with_suffix(".blank").read_bytes())
    with pytest.raises(ValueError, match=refusal(pair_root, "train")):
        module_of(pair_root).load_state_dict(state)


def test_copied_pairs_are_the_same_pairs(pair_root, tmp_path):
    state = module_of(pair_root).state_dict()
    pair_root.rename(tmp_path / "elsewhere")
    module_of(tmp_path / "elsewhere").load_state_dict(state)


def test_a_checkpoint_of_an_earlier_release_is_compared_by_names_and_sizes(pair_root, caplog):
    state = {split: hash_of_sizes(find_pairs(pair_root / split)) for split in ("train", "val")}
    with caplog.at_level(logging.WARNING):
        module_of(pair_root).load_state_dict(state)
    assert [record.getMessage() for record in caplog.records] == [
        "the checkpoint is of an earlier release, which kept names and sizes of the "
        f"{split} pairs alone: whether their contents have changed is not known"
        for split in ("train", "val")
    ]
    with find_pairs(pair_root / "val")[0].image.open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(ValueError, match=refusal(pair_root, "val")):
        module_of(pair_root).load_state_dict(state)


def test_a_second_start_reads_only_what_has_changed(pair_root, tmp_path, monkeypatch):
    age(pair_root, monkeypatch)
    kept = tmp_path / "pairs.json"
    first = module_of(pair_root)
    first.keep_hashes(kept)
    read: list[Path] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda file: read.append(file) or read_bytes(file))
    module_of(pair_root).keep_hashes(kept)
    assert read == []
    changed = find_pairs(pair_root / "val")[2].mask
    replace_keeping_size_and_time(changed, read_bytes(changed)[:-1] + b"x")
    second = module_of(pair_root)
    second.keep_hashes(kept)
    assert read == [changed]
    assert second.fingerprint("train") == first.fingerprint("train")
    assert second.fingerprint("val") != first.fingerprint("val")


def test_what_has_just_changed_is_not_trusted_to_have_settled(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    hashes = FileHashes(tmp_path / "kept.json")
    assert hashes.of([tmp_path / "a"]) == [hashlib.blake2b(b"a", digest_size=16).hexdigest()]
    hashes.keep()
    assert json.loads((tmp_path / "kept.json").read_text()) == {}


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"a": 1}'])
def test_a_damaged_file_of_hashes_is_read_anew(tmp_path, content):
    (tmp_path / "kept.json").write_text(content)
    (tmp_path / "a").write_bytes(b"a")
    hashes = FileHashes(tmp_path / "kept.json")
    assert hashes.of([tmp_path / "a"]) == [hashlib.blake2b(b"a", digest_size=16).hexdigest()]
    hashes.keep()
