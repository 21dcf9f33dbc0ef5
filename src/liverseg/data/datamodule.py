"""Splits: the pairs of a folder, served so that a run can be repeated and resumed."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from lightning import LightningDataModule, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from pydantic import AfterValidator, Field
from torch import Tensor, nn
from torch.utils.data import DataLoader

from liverseg.data.augmentation import BatchAugment, is_for_batches
from liverseg.data.fingerprints import FileFacts, hash_of_bytes, hash_of_sizes, kept_file
from liverseg.data.folders import PairFolders
from liverseg.data.folds import Division, divide_folders
from liverseg.data.images import MOST_PIXELS, is_coloured, shown_channels
from liverseg.data.loaders import (
    ResumableSampler,
    SameSizeBatches,
    pad_and_stack,
    spare_cores,
    stack,
)
from liverseg.data.masks import MaskReader, colour_names
from liverseg.data.pairs import Pair, case_of
from liverseg.data.patients import count_pairs, shared_images, shared_patients
from liverseg.data.patterns import USUAL_PATTERN, one_group
from liverseg.data.samples import PairDataset, Sample
from liverseg.data.slices import FolderStacks
from liverseg.data.table import TABLE
from liverseg.data.transforms import Augment, Normalize
from liverseg.labels import IGNORED, first_scored, scored_names
from liverseg.scores import sentence_of_absence

Split = Literal["train", "val", "test"]
logger = logging.getLogger(__name__)


class PairSource(Protocol):
    """What can draw pairs into a folder that does not exist yet."""

    def write(self, folder: Path) -> None:
        """Write the splits; return at once where the folder already holds them."""
        ...


_Count = Annotated[int, Field(ge=0)]


class PairDataModule(LightningDataModule):
    """The pairs of train, val and, where there is one, test, as they lie below ``root``.

    With a ``fold``, the pairs of train and, where there is one, val are put together and divided
    anew, see :mod:`liverseg.data.folds`: val is one fold, train all others.

    Args:
        root: Folder with the splits, see :class:`~liverseg.data.folders.PairFolders`.
        phantom: Draws the pairs into ``root`` before they are first read; None for a folder of
            one's own.
        slices: How many neighbouring slices of a patient are channels of one image, odd; see
            :mod:`liverseg.data.slices`. The network's channels are those of all of them.
        channels: Channels of the image: 1 or 3, to which files are converted, or as many as the
            files have.
        image_size: Height and width that images are resized to for the network; None keeps each
            image's own. Predictions are resized back, and scores are counted at the mask's size.
        mean: Subtracted from images in [0, 1]; one number, or one per channel.
        std: What images are divided by thereafter; one number, or one per channel.
        num_classes: 1 for foreground against background, N for classes 0 (background) ... N - 1.
        class_names: Names of the scored classes; None calls them as ``mask_colors`` does, or
            class_1, class_2, ...
        ignore_index: Mask value, or values, of pixels that count nowhere.
        mask_values: Mask value, or values, of class 0, 1, ...; see :class:`MaskReader`.
        mask_threshold: Mask values from this one on are foreground; see :class:`MaskReader`.
        mask_colors: Colour, or colours, of each class by name; see :class:`MaskReader`.
        mask_suffix: What a mask's name has behind that of its image.
        white_value: What is white in images of 16 bits, see :func:`~liverseg.data.read_image`.
        case_pattern: Regular expression whose first group is the case (patient) in a file name,
            where no table ``cases.csv`` says it; empty for none.
        augment: Transforms of training samples by name; those of :mod:`liverseg.data.augmentation`
            take whole batches, on their device, after all others.
        batch_size: Images in a batch, per device.
        min_steps: Batches in an epoch of training at least; few images are passed several times.
        num_workers: Processes that load; 0 loads in the process that trains. None is 0 where the
            split stays in memory or the network is on the processor, which has no core to spare,
            else one for each other core, at most 8.
        cache_megabytes: A split whose decoded pairs fit into this stays in memory; 0 decodes anew
            every epoch.
        seed: Seed of order and augmentation.
        fold: The fold that is val, from 0 up; None takes the folders as they are.
        num_folds: At least 2.
        background: Whether class 0 is background; False scores every class, for scenes.
    """

    def __init__(
        self,
        *,
        root: Annotated[str | Path, Field(min_length=1, description="a folder")],
        phantom: Annotated[
            PairSource | None, Field(description="null, or a class that draws pairs")
        ],
        channels: Annotated[int, Field(ge=1)],
        image_size: Annotated[
            Sequence[int] | None, Field(description="null or [height, width] in pixels")
        ],
        mean: float | Sequence[float],
        std: float | Sequence[float],
        num_classes: int,
        class_names: Sequence[str] | None,
        ignore_index: Annotated[
            int | Sequence[int] | None,
            Field(description="null, a whole number, or a list of them"),
        ],
        mask_values: Annotated[
            Sequence[int | Sequence[int]] | None,
            Field(
                description="null, or a list with a mask value, or a list of them, for each class"
            ),
        ],
        mask_threshold: int | None,
        case_pattern: Annotated[
            str,
            AfterValidator(one_group),
            Field(
                description="a regular expression with exactly one group, at most 4 open repeats "
                r'such as .+ and none of them within another, such as ^(.+)_slice\d+$, or ""'
            ),
        ],
        augment: Annotated[
            Mapping[str, nn.Module],
            Field(description="a mapping of names to transforms, {} for none"),
        ],
        batch_size: int,
        num_workers: _Count | None,
        cache_megabytes: _Count,
        seed: Annotated[int, Field(ge=0, le=2**32 - 1)],
        fold: int | None = None,  # a default, because older checkpoints do not name it
        num_folds: int = 5,
        background: bool = True,
        mask_colors: Annotated[
            Mapping[str, Any] | None,
            Field(description="null, or a mapping of class names to colours such as [255,0,0]"),
        ] = None,
        mask_suffix: Annotated[
            str, Field(min_length=1, description="the end of a mask's name, such as _mask")
        ] = "_mask",
        white_value: Annotated[int, Field(ge=1, le=65535)] | None = None,
        slices: Annotated[int, Field(ge=1, le=15)] = 1,
        min_steps: Annotated[int, Field(ge=1)] = 24,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"data.batch_size={batch_size} must be at least 1")
        if num_folds < 2:
            raise ValueError(f"data.num_folds={num_folds} must be at least 2")
        if fold is not None and not 0 <= fold < num_folds:
            raise ValueError(
                f"fold={fold} must lie in 0 ... {num_folds - 1}, as data.num_folds={num_folds}, or "
                "be null"
            )
        self.root = Path(root)
        self._phantom = phantom
        self.channels = channels
        self.num_classes = num_classes
        self.image_size = two_sides(image_size)
        if slices % 2 == 0:
            raise ValueError(f"data.slices={slices} must be odd: a slice, and as many on each side")
        self.slices = slices
        self.normalize = Normalize(mean=mean, std=std, channels=channels, slices=slices)
        self.is_normalizing = True  # False leaves it to whom the images are served
        self.mask_reader = MaskReader(
            num_classes=num_classes,
            ignore_index=ignore_index,
            mask_values=mask_values,
            mask_threshold=mask_threshold,
            mask_colors=mask_colors,
        )
        names = class_names or colour_names(mask_colors, num_classes, background=background)
        self.class_names = scored_names(num_classes, names, background=background)
        self.mask_suffix = mask_suffix
        self.white_value = white_value
        self._case_pattern = one_group(case_pattern)
        self.folders = PairFolders(self.root, mask_suffix=mask_suffix, case_pattern=case_pattern)
        for_batches = {name: one for name, one in augment.items() if is_for_batches(one)}
        for_samples = {name: one for name, one in augment.items() if name not in for_batches}
        self._augment = Augment(for_samples, num_classes=num_classes) if for_samples else None
        self._batch_augment = None
        if for_batches:
            self._batch_augment = BatchAugment(
                for_batches,
                normalize=self.normalize,
                seed=seed,
                outside=0 if background else IGNORED,
                slices=slices,
            )
        self.batch_size = batch_size
        self._min_steps = min_steps
        self._num_workers = num_workers
        self._cache_megabytes = cache_megabytes
        self._seed = seed
        self._fold = fold
        self._num_folds = num_folds
        self._datasets: dict[Split, PairDataset] = {}
        self._listed: dict[Split, list[Pair]] = {}
        self._fingerprints: dict[Split, str] = {}
        # What a pair is decoded to depends on, beside its files.
        self._reading = repr([channels, white_value, num_classes, ignore_index, mask_values])
        self._reading += repr([mask_threshold, mask_colors, self.image_size])

    def prepare_data(self) -> None:
        """Draw the phantom, where one is declared."""
        if self._phantom is not None:
            self._phantom.write(self.root)

    def has_split(self, split: Split) -> bool:
        """Tell whether all that a split is taken from is there."""
        return all(self.folders.has(source) for source in self._sources(split))

    def _sources(self, split: Split) -> list[Split]:
        """Return the splits on disk that a split is taken from."""
        if self._fold is None or split == "test":
            return [split]
        return ["train", "val"] if self.folders.has("val") else ["train"]

    def _where(self, split: Split) -> str:
        """Return where a split is taken from, for a sentence."""
        return " and ".join(self.folders.where(source) for source in self._sources(split))

    @cached_property
    def _facts(self) -> FileFacts:
        """What earlier runs have found out about the files."""
        return FileFacts(kept_file(self.root))

    @cached_property
    def _division(self) -> Division:
        return divide_folders(
            {
                source: self.folders.pairs(source, self._facts.headers)
                for source in self._sources("train")
            },
            num_folds=self._num_folds,
            where=self._where("train"),
        )

    def _pairs(self, split: Split) -> list[Pair]:
        if self._fold is None or split == "test":
            if split not in self._listed:
                self._listed[split] = self.folders.pairs(split, self._facts.headers)
            return self._listed[split]
        if split == "val":
            return self._division.inside(self._fold)
        return self._division.outside(self._fold)

    def pairs(self, split: Split) -> list[Pair]:
        """List the pairs of a split; without folds, no file is opened.

        Raises:
            FileNotFoundError: If the split is missing.
            ValueError: If it is faulty.
        """
        is_divided = self._fold is not None and split != "test"
        return self._pairs(split) if is_divided else self.folders.listed(split)

    def counted(self) -> str:
        """Say how many pairs and patients each split holds that has been read."""
        return count_pairs({split: one.cases for split, one in self._datasets.items()})

    def stacks(self) -> FolderStacks:
        """Return what finds the slices that an image of any folder is seen with."""
        return FolderStacks(
            self.slices, case_pattern=self._case_pattern, mask_suffix=self.mask_suffix
        )

    def case_in(self, name: str) -> str | None:
        """Return whose image a file name says it is, None where it says nothing."""
        return case_of(name, self._case_pattern)

    def dataset(self, split: Split) -> PairDataset:
        """Return the pairs of a split, read at the first call.

        Raises:
            FileNotFoundError: If the folder is missing.
            ValueError: If the folder or, where the split is kept in memory, a file is faulty, or if
                there are more folds than cases.
        """
        if split not in self._datasets:
            is_training = split == "train"
            self._datasets[split] = PairDataset(
                self._pairs(split),
                channels=self.channels,
                mask_reader=self.mask_reader,
                normalize=self.normalize if self._normalizes(split) else None,
                image_size=self.image_size,
                resize_masks=is_training,
                augment=self._augment if is_training else None,
                seed=self._seed,
                white_value=self.white_value,
                slices=self.slices,
                cache_megabytes=self._cache_megabytes,
                header=self._facts.header,
                classes=self._known_classes(split),
            )
        return self._datasets[split]

    def _known_classes(self, split: Split) -> list[int] | None:
        """Return the classes that an earlier start has found in these very files, read alike.

        Processes that load would each decode pairs of their own, so that all are decoded before.
        """
        if self._num_workers or not self._facts.has_checks:
            return None
        return self._facts.checked(self._check_of(split))

    def _check_of(self, split: Split) -> str:
        return f"{split} {self.fingerprint(split)} {self._reading}"

    def keep_hashes(self, file: Path) -> None:
        """Keep hashes of the pairs' bytes in a file, so that a resumed run need not read them.

        An image that is in two splits is told.
        """
        self._facts.add(file)
        self._fingerprints.clear()
        self.state_dict()
        self._facts.keep(file)
        splits: tuple[Split, ...] = ("train", "val")
        for split in splits:
            if (found := self.dataset(split).classes()) is not None:
                self._facts.check(self._check_of(split), found)
        self._facts.keep_for_all(kept_file(self.root))
        images: dict[str, dict[str, str]] = {
            split: {
                self._facts.known(pair.image): pair.image.name for pair in self.dataset(split).pairs
            }
            for split in splits
        }
        for sentence in shared_images(images):
            logger.warning("%s: %s", self.root, sentence)

    def fingerprint(self, split: Split) -> str:
        """Return a hash of the names and bytes of a split's pairs, as at the first call."""
        if split not in self._fingerprints:
            self._fingerprints[split] = hash_of_bytes(self._pairs(split), self._facts)
        return self._fingerprints[split]

    def state_dict(self) -> dict[str, str]:
        """Return the fingerprints of the pairs, which every checkpoint carries."""
        return {split: self.fingerprint(split) for split in ("train", "val")}

    def load_state_dict(self, state_dict: dict[str, str]) -> None:
        """Refuse to go on with other pairs.

        Raises:
            ValueError: If the pairs have changed since the checkpoint was written.
        """
        for split in ("train", "val"):
            if is_earlier := not state_dict[split].startswith("bytes:"):
                found = hash_of_sizes(self.dataset(split).pairs)
            else:
                found = self.fingerprint(split)
            if state_dict[split] != found:
                raise ValueError(
                    f"the pairs in {self._where(split)} are not those that the run began with; "
                    "restore them, name the folder that it began with by data.root=DIR, or start a "
                    "new run"
                )
            if is_earlier:
                logger.warning(
                    "the checkpoint is of an earlier release, which kept names and sizes of the "
                    "%s pairs alone: whether their contents have changed is not known",
                    split,
                )

    def setup(self, stage: str) -> None:
        """Read what a stage of the trainer needs."""
        splits: dict[str, tuple[Split, ...]] = {
            "fit": ("train", "val"),
            "validate": ("val",),
            "test": ("test",),
        }
        for split in splits.get(stage, ()):
            self.dataset(split)
        if stage == "fit":
            self._tell()

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return shuffled, augmented batches, from where the trainer stands."""
        dataset = self.dataset("train")
        sampler = ResumableSampler(
            dataset,
            trainer=self._the_trainer(),
            batch_size=self.batch_size,
            seed=self._seed,
            min_steps=self._min_steps,
        )
        return DataLoader(
            dataset,
            batch_size=sampler.batch_size,
            sampler=sampler,
            collate_fn=pad_and_stack,
            **self._loading(dataset),
        )

    def _normalizes(self, split: Split) -> bool:
        """Tell whether images are served normalised; batches are after they were augmented."""
        return self.is_normalizing and not (split == "train" and self._batch_augment is not None)

    @property
    def is_augmenting(self) -> bool:
        """Whether training sees images other than they are."""
        return self._augment is not None or self._batch_augment is not None

    def augmented(self, index: int, epochs: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return what training sees of one of its images in some epochs.

        Args:
            index: The image's place in train.
            epochs: Each gives another draw.

        Returns:
            Images in [0, 1], of shape (N, C, H, W), and masks of shape (N, H, W).
        """
        dataset = self.dataset("train")
        batch: dict[str, Any] = pad_and_stack([dataset[index, epoch] for epoch in epochs])
        if self._batch_augment is not None:
            batch = self._batch_augment(self._batch_augment.draw(batch))
        return self.normalize.undo(batch["image"]), batch["mask"]

    def on_before_batch_transfer(
        self, batch: dict[str, Any], dataloader_idx: int
    ) -> dict[str, Any]:
        """Draw what happens to a training batch."""
        if self._batch_augment is None or not self._the_trainer().training:
            return batch
        return self._batch_augment.draw(batch)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Augment a training batch on its device."""
        if self._batch_augment is None or not self._the_trainer().training:
            return batch
        return self._batch_augment(batch)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Return the batches of val, in order."""
        return self._ordered_loader("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """Return the batches of test, in order."""
        return self._ordered_loader("test")

    def _ordered_batches(self, split: Split) -> SameSizeBatches:
        """Return which images of a split this process scores together, in order."""
        trainer = self._the_trainer()
        return SameSizeBatches(
            self.dataset(split).sizes(),
            batch_size=self.batch_size,
            rank=trainer.global_rank,
            num_ranks=trainer.world_size,
        )

    def _ordered_loader(self, split: Split) -> DataLoader[Sample]:
        return DataLoader(
            self.dataset(split),
            batch_sampler=self._ordered_batches(split),
            collate_fn=stack,
            **self._loading(self.dataset(split)),
        )

    def _loading(self, dataset: PairDataset) -> dict[str, Any]:
        """Return how a loader reads ahead."""
        trainer = self._the_trainer()
        strategy = trainer.strategy
        is_on_gpu = strategy.root_device.type == "cuda"
        number = self._num_workers
        if number is None:
            is_waiting = is_on_gpu and not dataset.is_cached
            # What srun starts has cores of its own; others share those of their computer.
            is_bound = isinstance(getattr(strategy, "cluster_environment", None), SLURMEnvironment)
            number = spare_cores(1 if is_bound else trainer.num_devices) if is_waiting else 0
        return {
            "num_workers": number,
            "persistent_workers": number > 0,
            "pin_memory": is_on_gpu,
        }

    def _the_trainer(self) -> Trainer:
        if self.trainer is None:
            raise RuntimeError("loaders are for a trainer: pass this data module to Trainer.fit")
        return self.trainer

    def _tell(self) -> None:
        """Log what was found, and what makes scores look better than they are."""
        where = str(self.root)
        if self._fold is not None:
            where += f", fold={self._fold} of {self._num_folds}"
        pairs = {"train": self.dataset("train").pairs, "val": self.dataset("val").pairs}
        if self.has_split("test"):
            pairs["test"] = self._pairs("test")  # refuses a faulty folder before training
        cases = {split: [pair.case for pair in pairs[split]] for split in pairs}
        kept = "in memory" if self.dataset("train").is_cached else "decoded each epoch"
        told = [count_pairs(cases), self.folders.layout(), kept]
        logger.info("%s: %s", where, "; ".join(filter(None, told)))
        if shown := shown_channels(self.channels):
            logger.info("%s", shown)
        first = pairs["train"][0].image
        with suppress(ValueError, OSError):  # told when it is read as it is to be
            if self.channels == 1 and is_coloured(first, self.white_value):
                logger.warning("%s is in colour and seen in grey; add data.channels=3", first)
        if self._fold is not None and (count := self._division.num_without_case):
            logger.warning(
                "%s: %d of %d %s, so folds take each such "
                "image for a patient: slices of one patient may be in train and in val, which "
                "flatters the network",
                *(self.root, count, len(self._division.pairs), self._without_case()),
            )
        is_typed = self._case_pattern not in ("", USUAL_PATTERN)
        if is_typed and not any(case for those in cases.values() for case in those):
            logger.warning("%s: %s, so no patient is known", self.root, self._without_case())
        for split in ("val", "test"):
            nameless = cases.get(split, []).count(None)
            if 0 < nameless < len(cases.get(split, [])):
                logger.warning(
                    "%s: %d of %d %s, so %s has no per-case score",
                    *(self.root, nameless, len(cases[split]), self._without_case(split), split),
                )
        if gaps := [gap for split in ("train", "val") for gap in self.dataset(split).gaps]:
            logger.warning(
                "%s: %d neighbours have slice numbers that do not follow each other, such as "
                "%s: data.slices=%d takes the next that is there",
                *(self.root, len(gaps), gaps[0], self.slices),
            )
        for sentence in shared_patients(cases):
            logger.warning("%s: %s", self.root, sentence)
        splits: tuple[Split, ...] = ("train", "val")
        for split in splits:
            found = self.dataset(split).classes()  # else the first pass tells, see the task
            if found is not None and (absent := self._absent(found)):
                logger.warning("%s: %s", self.root, sentence_of_absence(split, absent))

    def _without_case(self, split: str = "") -> str:
        """Say that pairs, of a split, have no case, and where it is looked for."""
        of = f" of {split}" if split else ""
        if self.folders.table is not None:
            return f"images{of} have no case in {TABLE}"
        return f"names{of} carry no case (data.case_pattern={self._case_pattern})"

    def _absent(self, found: set[int]) -> list[str]:
        first = first_scored(self.num_classes, self.class_names)
        return [name for index, name in enumerate(self.class_names, first) if index not in found]


def two_sides(image_size: Sequence[int] | None) -> tuple[int, int] | None:
    """Check an image size and return it as (height, width).

    Raises:
        ValueError: If it is not two positive numbers, or more than an image may have.
    """
    if image_size is None:
        return None
    if len(image_size) != 2 or min(image_size) < 1:
        raise ValueError(f"data.image_size={image_size} must be [height, width] in pixels, or null")
    if image_size[0] * image_size[1] > MOST_PIXELS:
        raise ValueError(
            f"data.image_size={list(image_size)} is more than the {MOST_PIXELS:,} pixels that an "
            "image may have; make it smaller"
        )
    return image_size[0], image_size[1]
