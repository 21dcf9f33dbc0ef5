import hashlib
import json
import logging
import os
import re
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from serving import module_of

from liverseg.data.datamodule import PairDataModule
from liverseg.data.fingerprints import FileFacts, hash_of_sizes, in_threads, kept_file
from liverseg.data.pairs import find_pairs
from liverseg.data.samples import PairDataset


def refusal(root: Path, split: str) -> str:
    return "^" + re.escape(
        f"the pairs in {root / split} are not those that the run began with; restore them, name "
        "the folder that it began with by data.root=DIR, or start a new run"
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
    hashes = FileFacts(tmp_path / "kept.json")
    assert hashes.of([tmp_path / "a"]) == [hashlib.blake2b(b"a", digest_size=16).hexdigest()]
    hashes.keep(tmp_path / "kept.json")
    assert json.loads((tmp_path / "kept.json").read_text()) == {}


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"a": 1}'])
def test_a_damaged_file_of_hashes_is_read_anew(tmp_path, content):
    (tmp_path / "kept.json").write_text(content)
    (tmp_path / "a").write_bytes(b"a")
    hashes = FileFacts(tmp_path / "kept.json")
    assert hashes.of([tmp_path / "a"]) == [hashlib.blake2b(b"a", digest_size=16).hexdigest()]
    hashes.keep(tmp_path / "kept.json")


@pytest.fixture
def kept(pair_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a start on few files keeps what others keep of many."""
    age(pair_root, monkeypatch)
    monkeypatch.setattr("liverseg.data.fingerprints._WORTH_KEEPING", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return kept_file(pair_root)


def decoded_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of pairs, once they have been decoded."""
    decoded: list[str] = []
    decode = PairDataset._decode
    monkeypatch.setattr(
        PairDataset, "_decode", lambda self, pair: decoded.append(pair.name) or decode(self, pair)
    )
    return decoded


def start(root: Path, run: Path, **settings: object) -> PairDataModule:
    module = module_of(root, cache_megabytes=64, **settings)
    module.keep_hashes(run / "pairs.json")
    return module


def test_what_one_run_has_read_the_next_decodes_when_it_is_used(
    pair_root, tmp_path, kept, monkeypatch
):
    first = start(pair_root, tmp_path / "first")
    decoded = decoded_by(monkeypatch)
    second = start(pair_root, tmp_path / "second")
    assert (decoded, second.state_dict()) == ([], first.state_dict())
    datasets = [module.dataset("train") for module in (first, second)]
    assert all(one.is_cached for one in datasets)
    assert datasets[0].classes() == datasets[1].classes() == {0, 1}
    assert datasets[0].statistics() == datasets[1].statistics()
    for index in (0, 3, 0):
        ours, theirs = (one[index] for one in datasets)
        assert ours["image"].equal(theirs["image"])
        assert ours["mask"].equal(theirs["mask"])
    assert len(decoded) == len(set(decoded))  # each once


@pytest.mark.parametrize("settings", [{"mask_values": [0, [1, 255]]}, {"num_workers": 1}])
def test_another_reading_decodes_all_pairs_before(pair_root, tmp_path, kept, monkeypatch, settings):
    start(pair_root, tmp_path / "first")
    decoded = decoded_by(monkeypatch)
    start(pair_root, tmp_path / "second", **settings)
    assert len(decoded) == sum(len(find_pairs(pair_root / one)) for one in ("train", "val"))


def test_a_mask_that_is_replaced_is_read_before_training(pair_root, tmp_path, kept):
    start(pair_root, tmp_path / "first")
    mask = find_pairs(pair_root / "train")[1].mask
    with Image.open(mask) as shown:
        shown.point(lambda value: 7).save(mask)
    with pytest.raises(ValueError, match=r"holds undeclared values \(7\)"):
        start(pair_root, tmp_path / "second")


@pytest.mark.parametrize("damage", ["", "[]", '{"checked": 5}', '{"checked": {"train": "x"}}', "*"])
def test_what_is_damaged_there_is_read_anew(pair_root, tmp_path, kept, damage):
    first = start(pair_root, tmp_path / "first")
    if damage == "*":  # every entry
        entries = json.loads(kept.read_text())
        damage = json.dumps(
            {key: [*list(one)[:3], {}, "x", 0, None] for key, one in entries.items()}
        )
    kept.write_text(damage)
    second = start(pair_root, tmp_path / "second")
    assert second.state_dict() == first.state_dict()
    assert second.dataset("val").sizes() == first.dataset("val").sizes()


def test_a_place_that_cannot_be_written_changes_nothing(pair_root, tmp_path, kept):
    (tmp_path / "cache").write_text("a file")
    start(pair_root, tmp_path / "first")
    assert start(pair_root, tmp_path / "second").dataset("train").is_cached


def test_few_files_leave_nothing_behind(pair_root, tmp_path, kept, monkeypatch):
    monkeypatch.setattr("liverseg.data.fingerprints._WORTH_KEEPING", 1000)
    start(pair_root, tmp_path / "first")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("seconds", "are_several"), [(0.0, False), (0.002, True)])
def test_threads_take_turns_where_an_item_takes_its_time(seconds: float, are_several: bool) -> None:
    seen = set()

    def work(item: int) -> int:
        time.sleep(seconds)
        seen.add(threading.get_ident())
        return -item

    assert in_threads(work, range(150)) == [-item for item in range(150)]
    assert (len(seen) > 1) is are_several
    assert in_threads(work, []) == []
