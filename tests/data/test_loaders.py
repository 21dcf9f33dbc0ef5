from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment
from PIL import Image
from serving import module_of, resize
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from liverseg.data.loaders import ResumableSampler, SameSizeBatches, pad_and_stack, spare_cores
from liverseg.data.pairs import find_pairs
from liverseg.labels import IGNORED


def trainer_of(**settings: object) -> Trainer:
    return Trainer(
        **{"accelerator": "cpu", "logger": False, **settings},
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


class FakeTrainer:
    """What the sampler asks of a trainer, at any rank and after ``seen`` batches of an epoch."""

    def __init__(
        self, rank: int = 0, ranks: int = 1, epoch: int = 0, seen: int = 0, *, ended: bool = False
    ) -> None:
        self.global_rank, self.world_size, self.num_devices = rank, ranks, 1
        self.fit_loop = Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
        ).fit_loop
        self.fit_loop.epoch_progress.current.ready = epoch + 1
        self.fit_loop.epoch_progress.current.processed = epoch
        self.fit_loop.epoch_loop.batch_progress.current.processed = seen
        self.fit_loop.epoch_loop.batch_progress.is_last_batch = ended


class Recorder(LightningModule):
    """A task that learns nothing and keeps what it was served."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.trained: list[tuple[int, list[int]]] = []
        self.scored: list[dict[str, Tensor]] = []

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        self.trained.append((self.current_epoch, batch["index"].tolist()))
        return self.weight * batch["image"].mean()

    def validation_step(self, batch: dict[str, Tensor]) -> None:
        self.scored.append(batch)

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


# The order of training


def order_of(
    pair_root: Path, *, seed: int = 0, batch_size: int = 2, min_steps: int = 1, **fake: object
) -> list:
    sampler = ResumableSampler(
        module_of(pair_root).dataset("train"),
        trainer=FakeTrainer(**fake),
        batch_size=batch_size,
        seed=seed,
        min_steps=min_steps,
    )
    return list(sampler)


def test_the_order_is_a_permutation_that_depends_on_seed_and_epoch_alone(pair_root):
    orders = []
    for seed in (0, 5):
        for epoch in (0, 1):
            order = order_of(pair_root, seed=seed, epoch=epoch)
            torch.manual_seed(seed + 5)
            assert order == order_of(pair_root, seed=seed, epoch=epoch)
            assert sorted(order) == [(index, epoch) for index in range(6)]
            orders.append(tuple(index for index, _ in order))
    assert len(set(orders)) == 4
    assert orders[0] != (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("batch_size", "epoch", "seen", "ended", "next_epoch", "skip"),
    [
        (2, 0, 0, False, 0, 0),
        (2, 0, 2, False, 0, 4),
        (2, 0, 3, True, 1, 0),
        (2, 2, 1, False, 2, 2),
        (4, 1, 1, False, 1, 4),  # the second batch of an epoch is short
        (4, 1, 2, True, 2, 0),
        (2, 1, 2, True, 2, 0),  # an epoch of two batches, trainer.limit_train_batches=2
    ],
)
def test_the_order_goes_on_where_the_trainer_stands(
    pair_root, batch_size, epoch, seen, ended, next_epoch, skip
):
    whole = order_of(pair_root, batch_size=batch_size, epoch=next_epoch)
    assert len(whole) == 6
    rest = order_of(pair_root, batch_size=batch_size, epoch=epoch, seen=seen, ended=ended)
    assert rest == whole[skip:]
    assert {number for _, number in rest} == {next_epoch}


def test_only_the_first_epoch_after_a_start_is_shortened(pair_root):
    dataset = module_of(pair_root).dataset("train")
    trainer = FakeTrainer(epoch=1, seen=1)
    sampler = ResumableSampler(dataset, trainer=trainer, batch_size=2, seed=0)
    assert len(list(sampler)) == 4
    sampler.set_epoch(2)
    assert list(sampler) == order_of(pair_root, epoch=2)


@pytest.mark.parametrize(("min_steps", "passes"), [(1, 1), (2, 1), (3, 2), (4, 3)])
def test_few_images_are_passed_until_an_epoch_has_its_steps(pair_root, min_steps, passes):
    # 6 images in batches of 4: a pass is 2 steps, the second of them short
    orders = [
        order_of(pair_root, batch_size=4, min_steps=min_steps, epoch=epoch) for epoch in (0, 1)
    ]
    for epoch, order in enumerate(orders):
        assert len(order) == passes * 6
        for number in range(passes):  # each pass in an order and with an augmentation of its own
            images = order[6 * number : 6 * number + 6]
            assert sorted(images) == [(index, epoch * passes + number) for index in range(6)]
    assert len({tuple(index for index, _ in order) for order in orders}) == 2
    rest = order_of(pair_root, batch_size=4, min_steps=min_steps, epoch=1, seen=1)
    assert rest == orders[1][4:]


def test_a_batch_holds_no_image_twice_however_few_there_are(pair_root):
    task = Recorder()
    trainer_of(max_epochs=1).fit(task, module_of(pair_root, batch_size=1000, min_steps=3))
    assert [sorted(batch) for _, batch in task.trained] == [[0, 1, 2, 3, 4, 5]] * 3
    later = order_of(pair_root, batch_size=1000, min_steps=3, seen=1)
    assert later == order_of(pair_root, batch_size=6, min_steps=3)[6:]


def test_two_ranks_share_an_epoch(pair_root):
    ranks = [order_of(pair_root, rank=rank, ranks=2) for rank in (0, 1)]
    assert [len(rank) for rank in ranks] == [3, 3]
    assert sorted(ranks[0] + ranks[1]) == [(index, 0) for index in range(6)]
    later = [order_of(pair_root, rank=rank, ranks=2, epoch=1, seen=1) for rank in (0, 1)]
    again = [order_of(pair_root, rank=rank, ranks=2, epoch=1) for rank in (0, 1)]
    assert later == [again[0][2:], again[1][2:]]


class Stop(Callback):
    """Ends training after some batches, inside an epoch."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == self.after:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
@pytest.mark.parametrize("after", [1, 3, 4, 6])
def test_a_stopped_run_goes_on_with_the_batches_it_missed(pair_root, tmp_path, after):
    settings = {"max_epochs": 3, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    whole, first, rest = Recorder(), Recorder(), Recorder()
    trainer_of(**settings).fit(whole, module_of(pair_root, batch_size=2))
    assert len(whole.trained) == 9
    assert [epoch for epoch, _ in whole.trained] == [0] * 3 + [1] * 3 + [2] * 3

    stopped = trainer_of(**settings, callbacks=[Stop(after)])
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        stopped.fit(first, module_of(pair_root, batch_size=2))
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    trainer_of(**settings).fit(
        rest, module_of(pair_root, batch_size=2), ckpt_path=tmp_path / "stopped.ckpt"
    )
    assert first.trained + rest.trained == whole.trained


# The order of scoring

SIZES = [(4, 4), (8, 4), (4, 4), (4, 8), (4, 4), (8, 4), (4, 4)]


def test_a_batch_holds_images_of_one_size_in_the_order_of_names():
    batches = SameSizeBatches(SIZES, batch_size=3, rank=0, num_ranks=1)
    assert list(batches) == [[0, 2, 4], [6], [3], [1, 5]]
    assert len(batches) == 4
    assert list(batches) == list(batches)


@pytest.mark.parametrize("num_ranks", [2, 3, 7])
@pytest.mark.parametrize("batch_size", [1, 2, 99])
def test_ranks_take_every_image_once(num_ranks, batch_size):
    taken = []
    for rank in range(num_ranks):
        batches = SameSizeBatches(SIZES, batch_size=batch_size, rank=rank, num_ranks=num_ranks)
        assert all(len({SIZES[index] for index in batch}) == 1 for batch in batches)
        assert all(1 <= len(batch) <= batch_size for batch in batches)
        taken += [index for batch in batches for index in batch]
    assert sorted(taken) == list(range(7))


def test_ranks_beyond_the_images_take_the_first_too():
    ranks = [SameSizeBatches(SIZES[:2], batch_size=4, rank=rank, num_ranks=4) for rank in range(4)]
    assert [list(rank) for rank in ranks] == [[[0]], [[1]], [[0]], [[0]]]


def test_images_of_many_sizes_are_scored_in_full(pair_root):
    names = [pair.name for pair in find_pairs(pair_root / "val")]
    resize(pair_root / "val", names[1], (24, 16))
    resize(pair_root / "val", names[3], (24, 16))
    task, module = Recorder(), module_of(pair_root, batch_size=4)
    trainer_of().validate(task, module, verbose=False)
    assert [batch["index"].tolist() for batch in task.scored] == [[1, 3], [0, 2]]
    assert [batch["case"].tolist() for batch in task.scored] == [[0, 1], [0, 1]]
    assert [batch["image"].shape for batch in task.scored] == [(2, 1, 16, 24), (2, 1, 32, 32)]
    for batch in task.scored:
        for place, index in enumerate(batch["index"].tolist()):
            sample = module.dataset("val")[index]
            assert batch["mask"][place].equal(sample["mask"])
            assert batch["image"][place].equal(sample["image"])


def test_the_test_split_is_served_in_order(pair_root):
    task = Recorder()
    trainer_of().test(task, module_of(pair_root, batch_size=2), verbose=False)
    assert [batch["index"].tolist() for batch in task.scored] == [[0, 1], [2]]


def test_training_images_of_many_sizes_share_a_batch(pair_root):
    resize(pair_root / "train", find_pairs(pair_root / "train")[0].name, (24, 16))
    task = Recorder()
    settings = {"max_epochs": 1, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    trainer_of(**settings).fit(task, module_of(pair_root, batch_size=4))
    assert [len(indices) for _, indices in task.trained] == [4, 2]
    assert sorted(task.trained[0][1] + task.trained[1][1]) == [0, 1, 2, 3, 4, 5]


def test_a_smaller_sample_is_padded_right_and_below_with_ignored_pixels():
    samples = [
        {"image": torch.ones(1, *size), "mask": torch.ones(size).byte(), "index": i, "case": -1}
        for i, size in enumerate([(1, 3), (2, 2)])
    ]
    batch = pad_and_stack(samples)
    assert batch["image"].tolist() == [[[[1, 1, 1], [0, 0, 0]]], [[[1, 1, 0], [1, 1, 0]]]]
    assert batch["mask"].tolist() == [
        [[1, 1, 1], [IGNORED] * 3],
        [[1, 1, IGNORED], [1, 1, IGNORED]],
    ]
    assert batch["mask"].dtype == torch.uint8
    assert (batch["index"].tolist(), batch["case"].tolist()) == ([0, 1], [-1, -1])


def test_images_of_8_and_16_bits_share_a_batch(pair_root):
    names = sorted((pair_root / "val").glob("*[0-9].png"))
    for name in names[::2]:
        deep = np.asarray(Image.open(name)).astype(np.uint16) * 257  # the same picture
        Image.fromarray(deep).save(name)
    whole = []
    for size in (1, 4):
        data = module_of(pair_root, batch_size=size)
        data.is_normalizing = False  # as where checkpoints are scored
        trainer = trainer_of()
        trainer.test(Recorder(), data, verbose=False)  # which the module asks for its devices
        batches = [functional.to_dtype(one["image"], scale=True) for one in data.val_dataloader()]
        whole.append(torch.cat(batches))
    assert whole[0].max() <= 1
    assert whole[1].allclose(whole[0], atol=1e-6)


def test_samples_of_8_and_16_bits_are_stacked_at_one_scale():
    eight, sixteen = torch.full((1, 2, 2), 51, dtype=torch.uint8), torch.full((1, 2, 2), 0.2)
    mask = torch.zeros(2, 2).byte()
    samples = [{"image": image, "mask": mask} for image in (eight, sixteen)]
    assert pad_and_stack(samples)["image"].allclose(torch.tensor(0.2))
    assert pad_and_stack(samples[:1])["image"].dtype == torch.uint8  # scaled on the device


@pytest.mark.parametrize(
    ("cores", "processes", "expected"),
    [(2, 1, 1), (16, 1, 8), (16, 4, 3), (4, 4, 0), (1, 1, 0), (4, 8, 0)],
)
def test_cores_that_do_not_train_load(cores, processes, expected, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert spare_cores(processes) == expected


@pytest.mark.parametrize(
    ("device", "settings", "expected"),
    [
        ("cuda", {"cache_megabytes": 0}, 5),
        ("cuda", {"cache_megabytes": 100}, 0),
        ("cpu", {"cache_megabytes": 0}, 0),
        ("cpu", {"cache_megabytes": 0, "num_workers": 2}, 2),
    ],
)
def test_processes_load_for_a_gpu_what_is_not_in_memory(
    device, settings, expected, pair_root, monkeypatch
):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)), raising=False)
    module = module_of(pair_root, **{"num_workers": None, **settings})
    module.trainer = FakeTrainer()
    module.trainer.strategy = SimpleNamespace(root_device=torch.device(device))
    assert module.train_dataloader().num_workers == expected
    assert module.val_dataloader().num_workers == expected


def test_processes_of_a_computer_share_its_cores_and_those_of_slurm_have_their_own(
    pair_root, monkeypatch
):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    module = module_of(pair_root, num_workers=None, cache_megabytes=0)
    module.trainer = FakeTrainer(ranks=8)  # two computers of four GPUs
    module.trainer.num_devices = 4
    found = []
    for environment in (LightningEnvironment(), SLURMEnvironment(auto_requeue=False)):
        module.trainer.strategy = SimpleNamespace(
            root_device=torch.device("cuda"), cluster_environment=environment
        )
        found.append(module.val_dataloader().num_workers)
    assert found == [1, 7]
