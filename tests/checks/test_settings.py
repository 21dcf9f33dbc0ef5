import itertools
import pickle
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from liverseg.checks import check_settings, score_names
from liverseg.scores import SCORES, SegmentationScores
from liverseg.settings.mistakes import find_sentence
from liverseg.settings.words import all_keys

Compose = Callable[..., DictConfig]
CONFIGS = Path(__file__).parents[2] / "configs"
CHOICES = [
    f"{file.parent.name}={file.stem}"
    for file in sorted(CONFIGS.glob("*/*.yaml"))
    if file.parent.name not in ("scoring", "prediction")
]
ONE_CYCLE = [
    "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR",
    "~scheduler.T_max",
    "+scheduler.max_lr=0.1",
]
THREE = ["data.num_classes=3", "data.class_names=null"]
DEVICES = "auto, a number of devices from 1 up, -1 for all, or a list of their numbers"
PRECISIONS = (
    "auto, 32-true, 16-mixed, bf16-mixed, 64-true, 16-true, bf16-true, transformer-engine, "
    "transformer-engine-float16, 64, 32, 16 or bf16"
)
BATCHES = "a number of batches from 1 up, or a part of them above 0.0 and up to 1.0, or null"
PATTERN = (
    "a regular expression with exactly one group, at most 4 open repeats such as .+ and none of "
    r'them within another, such as ^(.+)_slice\d+$, or ""'
)
TIME = "days:hours:minutes:seconds, such as 00:08:00:00"
OF_VAL = "must be a score of val, which judges a network while it is trained"

# What is typed, and the sentence that answers it; {root} is the data folder, {tmp} the one above.
BAD: list[tuple[list[str], str]] = [
    # top level
    (["seed=-1"], "seed=-1 must be a whole number from 0 to 4294967295"),
    (["seed=true"], "seed=true must be a whole number from 0 to 4294967295"),
    (["fold=-1"], "fold=-1 must be a whole number from 0 up, or null"),
    (["fold=true"], "fold=true must be a whole number from 0 up, or null"),
    (["fold=first"], "fold=first must be a whole number from 0 up, or null"),
    (["data.fold=first"], "data.fold=first must be null or a whole number"),
    (["data.num_folds=2.5"], "data.num_folds=2.5 must be a whole number"),
    (
        ["fold=1", "data.fold=2"],
        "fold=1 does not reach the data, which has data.fold=2; leave fold out, or set "
        "data.fold=${fold}",
    ),
    (["threshold=1"], "threshold=1 must be a number above 0 and below 1"),
    (["threshold=half"], "threshold=half must be a number above 0 and below 1"),
    (["compile=maybe"], "compile=maybe must be true or false"),
    (["monitor_mode=maximum"], "monitor_mode=maximum must be max or min"),
    (["~seed"], "seed is missing from the config; leave out ~seed, or set it"),
    (["~callbacks"], "callbacks is missing from the config; leave out ~callbacks, or set it"),
    (["~monitor"], "monitor is missing from the config; leave out ~monitor, or set it"),
    # model
    (["model.depth=two"], "model.depth=two must be a whole number"),
    (["model.depth=2.5"], "model.depth=2.5 must be a whole number"),
    (["model.depth=true"], "model.depth=true must be a whole number"),
    (["model.width=[4]"], "model.width=[4] must be a whole number"),
    (["model.dropout=high"], "model.dropout=high must be a number"),
    (["model.dropout=nan"], "model.dropout=nan must be a number"),
    (
        ["model.dilations=wide"],
        "model.dilations=wide must be a whole number or a list, each entry a whole number",
    ),
    (
        ["model.upsampling=linear"],
        "model.upsampling=linear must be transposed, nearest or bilinear; the nearest is bilinear",
    ),
    (["+model.dept=3"], "model.dept=3 is no parameter of UNet; the nearest is model.depth"),
    (["~model.depth"], "model.depth is not set, but UNet needs it; add +model.depth=..."),
    (
        ["model.depth=${data.chanels}"],
        "model.depth refers to data.chanels, which does not exist; the nearest is data.channels",
    ),
    (
        ["model._target_=liverseg.network.Unet"],
        "model._target_=liverseg.network.Unet does not exist; the nearest is liverseg.network.UNet",
    ),
    (
        ["model._target_=liverseg.netwrok.UNet"],
        "model._target_=liverseg.netwrok.UNet does not exist; the nearest is liverseg.network.UNet",
    ),
    (
        ["model._target_=nowhere.Net"],
        "model._target_=nowhere.Net does not exist; Python has no nowhere",
    ),
    (
        ["model._target_=torch.nn"],
        "model._target_=torch.nn must be a class with its module, such as liverseg.network.UNet",
    ),
    # data
    (["data.channels=0"], "data.channels=0 must be a whole number from 1 up"),
    (["data.num_classes=two"], "data.num_classes=two must be a whole number"),
    (["data.batch_size=big"], "data.batch_size=big must be a whole number"),
    (
        ["data.num_workers=-1"],
        "data.num_workers=-1 must be a whole number from 0 up, or null",
    ),
    (["data.cache_megabytes=2G"], "data.cache_megabytes=2G must be a whole number from 0 up"),
    (["data.image_size=256"], "data.image_size=256 must be null or [height, width] in pixels"),
    (
        ["data.mask_values=all"],
        "data.mask_values=all must be null, or a list with a mask value, or a list of them, for "
        "each class",
    ),
    (["data.mean=dark"], "data.mean=dark must be a number or a list, each entry a number"),
    (
        ["data.ignore_index=none"],
        "data.ignore_index=none must be null, a whole number, or a list of them",
    ),
    (["data.class_names=liver"], "data.class_names=liver must be null or a list, each entry text"),
    (['data.case_pattern="("'], f"data.case_pattern=( must be {PATTERN}"),
    (["data.case_pattern=patient"], f"data.case_pattern=patient must be {PATTERN}"),
    (["data.case_pattern=null"], f"data.case_pattern=null must be {PATTERN}"),
    (["data.phantom=5"], "data.phantom=5 must be null, or a class that draws pairs"),
    (
        ["data=phantom", "data.phantom.image_size=big"],
        "data.phantom.image_size=big must be a whole number",
    ),
    (
        ["data.augment.flip.chance=often"],
        "data.augment.flip.chance=often must be a number from 0 to 1",
    ),
    (["data.augment.flip.chance=2"], "data.augment.flip.chance=2 must be a number from 0 to 1"),
    (
        ["augment=scale", "data.augment.scale.scale=[2,1]"],
        "data.augment.scale cannot be built (scale=[2, 1] must be two numbers from 0.01 up, the "
        "smaller first); change its keys",
    ),
    (
        ["augment=noise", "data.augment.noise.std=3"],
        "data.augment.noise.std=3 must be two numbers, the smaller first, or null",
    ),
    (
        ["+data.augment.x={_target_:torchvision.transforms.v2.RandomHorizontalFlip,p:2}"],
        "data.augment.x cannot be built (`p` should be a floating point value in the interval "
        "[0.0, 1.0]); change its keys",
    ),
    (
        ["+data.augment.noise=3"],
        "data.augment.noise=3 must name a class by _target_; leave it out with ~data.augment.noise",
    ),
    (
        ["data.root={tmp}/none"],
        "data.root={tmp}/none does not exist; name the folder that holds train/ and val/",
    ),
    (
        ["data.root={root}/train"],
        "data.root={root}/train holds no folder train/ (found no folder); name the folder that "
        "holds train/ and val/",
    ),
    (
        ["data.root={tmp}"],
        "data.root={tmp} holds no folder train/ (found pairs/, undivided/); name the folder that "
        "holds train/ and val/",
    ),
    (
        ["data.root={tmp}/undivided"],
        "data.root={tmp}/undivided holds no folder val/ (found train/); name the folder that holds "
        "train/ and val/, or divide train/ itself: fold=0",
    ),
    (
        ["fold=0", "data.root={tmp}"],
        "data.root={tmp} holds no folder train/ (found pairs/, undivided/); name the folder that "
        "holds train/",
    ),
    (
        ["fold=0", "data.root={tmp}/none"],
        "data.root={tmp}/none does not exist; name the folder that holds train/",
    ),
    (
        ["data.root={tmp}/a_file"],
        "data.root={tmp}/a_file is a file; name the folder that holds train/ and val/",
    ),
    (
        ["data=phantom", "data.root={tmp}/a_file/phantom"],
        "data.root={tmp}/a_file/phantom cannot be written, {tmp}/a_file is a file; name another "
        "folder",
    ),
    # monitor
    (["monitor=val/dise"], "monitor=val/dise is not logged; the nearest is val/dice"),
    (["monitor=dice_pooled"], "monitor=dice_pooled is not logged; the nearest is val/dice_pooled"),
    (
        ["monitor=accuracy"],
        "monitor=accuracy is not logged; choose one of val/loss, "
        + ", ".join(f"val/{key}" for key in SCORES),
    ),
    (
        ["monitor=val/hd95", "scores=[hd95]", "monitor_mode=min"],
        "monitor=val/hd95 would reward a network that misses structures, which have no distance; "
        "set monitor=val/nsd, with scores=[nsd], where they count 0",
    ),
    (["monitor=val/nsd"], "monitor=val/nsd is computed where it is asked for; add scores=[nsd]"),
    (
        ["monitor=val/rvd_case"],
        "monitor_mode=max does not fit val/rvd_case: smaller is better; set monitor_mode=min",
    ),
    # scores
    (
        ["scores=[hd59]"],
        "scores=[hd59]: hd59 is no score; the nearest is hd95, all are dice, iou, precision, "
        "recall, rvd, hd, hd95, assd, nsd",
    ),
    (["scores=dice"], "scores=dice must be a list of scores, such as [hd95]"),
    (["tolerance=0"], "tolerance=0 must be a number above 0"),
    (
        ["spacing=[0.7]"],
        "spacing=[0.7] must be two lengths, of height and width, such as [0.7,0.7], or null",
    ),
    (["monitor=train/dice"], f"monitor=train/dice {OF_VAL}; the nearest is val/dice"),
    (["monitor=test/iou"], f"monitor=test/iou {OF_VAL}; the nearest is val/iou"),
    (["monitor=val/dice/liver"], "monitor=val/dice/liver is not logged; the nearest is val/dice"),
    (
        [*THREE, "monitor=val/dice/class_3"],
        "monitor=val/dice/class_3 is not logged; the nearest is val/dice/class_2",
    ),
    (
        ["monitor=val/dice_case", "data.case_pattern=''"],
        "monitor=val/dice_case needs data.case_pattern, which finds the patient in a file name; "
        "set it, or monitor=val/dice",
    ),
    (
        ["monitor=val/loss"],
        "monitor_mode=max does not fit val/loss: smaller is better; set monitor_mode=min",
    ),
    (
        ["monitor_mode=min"],
        "monitor_mode=min does not fit val/dice: larger is better; set monitor_mode=max",
    ),
    (
        ["callbacks=early_stopping", "callbacks.early_stopping.monitor=val/los"],
        "callbacks.early_stopping.monitor=val/los is not logged; the nearest is val/loss",
    ),
    (
        ["callbacks=early_stopping", "callbacks.early_stopping.mode=min"],
        "callbacks.early_stopping.mode=min does not fit val/dice: larger is better; set "
        "callbacks.early_stopping.mode=max",
    ),
    (
        ["callbacks=early_stopping", "callbacks.early_stopping.patience=-1"],
        "callbacks.early_stopping.patience=-1 must be a whole number from 0 up",
    ),
    (
        ["callbacks.dashboard=null"],
        "callbacks.dashboard=null must name a class by _target_; leave it out with "
        "~callbacks.dashboard",
    ),
    (
        ["callbacks.pictures.num_pictures=some"],
        "callbacks.pictures.num_pictures=some must be a whole number from 0 up",
    ),
    (
        ["callbacks.pictures.num_worst=-1"],
        "callbacks.pictures.num_worst=-1 must be a whole number from 0 up",
    ),
    (
        ["callbacks.dashboard.graph=often"],
        "callbacks.dashboard.graph=often must be true or false",
    ),
    # data and model, data and loss
    (
        ["model.in_channels=3"],
        "model.in_channels=3 must equal data.channels=1; leave model.in_channels out, which "
        "follows data.channels by itself",
    ),
    (
        ["model.num_classes=2"],
        "model.num_classes=2 must equal data.num_classes=1; leave model.num_classes out, which "
        "follows data.num_classes by itself",
    ),
    (
        [*THREE, "loss=bce"],
        "loss._target_=liverseg.training.BinaryCrossEntropy takes one logit, but data.num_classes=3"
        " gives 3; set loss=dice_ce or loss=cross_entropy",
    ),
    (
        [*THREE, "loss=dice_bce"],
        "loss.losses.1._target_=liverseg.training.BinaryCrossEntropy takes one logit, but "
        "data.num_classes=3 gives 3; set loss=dice_ce or loss=cross_entropy",
    ),
    (
        ["loss=dice", "loss.class_weights=[1,2]"],
        "loss.class_weights=[1,2] must hold 1 number, one per foreground class, or [] for equal "
        "weights",
    ),
    (
        ["loss.losses.1.class_weights=[1,2,3]"],
        "loss.losses.1.class_weights=[1,2,3] must hold 2 numbers, one per class, background "
        "first, or [] for equal weights",
    ),
    (["loss=dice", "loss.smooth=little"], "loss.smooth=little must be a number"),
    (["loss.weights=2"], "loss.weights=2 must be a list, each entry a number"),
    # optimizer and scheduler
    (["optimizer.lr=-1"], "optimizer.lr=-1 must be a number above 0"),
    (["optimizer.lr=fast"], "optimizer.lr=fast must be a number above 0"),
    (["optimizer.weight_decay=-0.1"], "optimizer.weight_decay=-0.1 must be a number from 0 up"),
    (
        ["optimizer=sgd", "optimizer.momentum=1.5"],
        "optimizer.momentum=1.5 must be a number from 0 up, below 1",
    ),
    (
        ["+optimizer.betas=[0.9]"],
        "optimizer.betas=[0.9] must be two numbers from 0 up, below 1",
    ),
    (
        ["optimizer=adamw", "+optimizer.momentum=0.9"],
        "optimizer.momentum=0.9 is no parameter of AdamW; leave it out with ~optimizer.momentum",
    ),
    (
        ["optimizer._target_=torch.optim.AdamWW"],
        "optimizer._target_=torch.optim.AdamWW does not exist; the nearest is torch.optim.AdamW",
    ),
    (
        ["optimizer._partial_=false"],
        "optimizer._partial_=false must be true; it is built later, from what training brings",
    ),
    (
        ["optimizer=sgd", "optimizer.momentum=0", "+optimizer.nesterov=true"],
        "optimizer cannot be built (Nesterov momentum requires a momentum and zero dampening); "
        "change its keys",
    ),
    (
        ["scheduler._target_=torch.optim.lr_scheduler.OneCycleLR"],
        "scheduler.T_max=1 is no parameter of OneCycleLR; leave it out with ~scheduler.T_max",
    ),
    (
        ONE_CYCLE[:2],
        "scheduler.max_lr is not set, but OneCycleLR needs it; add +scheduler.max_lr=...",
    ),
    (
        ONE_CYCLE,
        "scheduler cannot be built (You must define either total_steps OR (epochs AND "
        "steps_per_epoch)); change its keys",
    ),
    (
        [*ONE_CYCLE, "+scheduler.total_steps=5", "trainer.max_epochs=9"],
        "scheduler cannot be stepped once in each of trainer.max_epochs=9 epochs (Tried to step 6 "
        "times. The specified number of total steps is 5); change its keys",
    ),
    (
        ["scheduler._target_=torch.optim.SGD", "~scheduler.T_max"],
        "scheduler._target_=torch.optim.SGD makes no scheduler; name one, such as "
        "torch.optim.lr_scheduler.ConstantLR",
    ),
    (
        ["scheduler=plateau", "scheduler.mode=min"],
        "scheduler.mode=min does not fit val/dice: larger is better; set scheduler.mode=max",
    ),
    # trainer
    (
        ["trainer.max_epochs=0"],
        "trainer.max_epochs=0 must be a whole number from 1 up, or -1 for no end",
    ),
    (
        ["trainer.max_epochs=-1"],
        "scheduler.T_max=-1 must be a whole number from 1 up; for training without end choose "
        "scheduler=constant",
    ),
    (["trainer.devices=0"], f"trainer.devices=0 must be {DEVICES}"),
    (["trainer.devices=two"], f"trainer.devices=two must be {DEVICES}"),
    (
        ["trainer.devices=[0,1]"],
        "trainer.devices=[0,1] is for GPUs, and training would run on the CPU; set "
        "trainer.devices=2, a number of processes",
    ),
    (
        ["trainer.accelerator=gpuu"],
        "trainer.accelerator=gpuu must be auto, cpu, gpu, cuda, mps or tpu; the nearest is gpu",
    ),
    (
        ["trainer.precision=bf17"],
        f"trainer.precision=bf17 must be {PRECISIONS}; the nearest is bf16",
    ),
    (
        ["+trainer.strategy=dpp"],
        "trainer.strategy=dpp must be auto, ddp or another strategy of Lightning; the nearest is "
        "ddp",
    ),
    (["+trainer.limit_val_batches=0"], f"trainer.limit_val_batches=0 must be {BATCHES}"),
    (["+trainer.limit_train_batches=1.5"], f"trainer.limit_train_batches=1.5 must be {BATCHES}"),
    (
        ["trainer.gradient_clip_val=-1"],
        "trainer.gradient_clip_val=-1 must be a number from 0 up, or null",
    ),
    (
        ["trainer.deterministic=wran"],
        "trainer.deterministic=wran must be null, true or false, or warn",
    ),
    (
        ["+trainer.max_epoch=3"],
        "trainer.max_epoch=3 is no parameter of Trainer; the nearest is trainer.max_epochs",
    ),
    (
        ["trainer.max_epochs=2", "+trainer.min_epochs=5"],
        "trainer.min_epochs=5 is more than trainer.max_epochs=2; raise the one, or lower the other",
    ),
    (
        ["+trainer.check_val_every_n_epoch=2"],
        "trainer.check_val_every_n_epoch=2 is more than trainer.max_epochs=1, so nothing would be "
        "scored; set it to 1 or fewer",
    ),
    (
        ["+trainer.fast_dev_run=true"],
        "trainer.fast_dev_run=true writes no checkpoint that could be scored; leave it out and "
        "choose trainer=debug",
    ),
    (
        ["+trainer.barebones=true"],
        "trainer.barebones=true keeps neither checkpoints nor curves, so nothing could be scored; "
        "leave it out",
    ),
    (
        ["+trainer.enable_checkpointing=false"],
        "trainer.enable_checkpointing=false leaves nothing to score; set it to true",
    ),
    (
        ["+trainer.profiler=abc"],
        "trainer.profiler=abc must be null, or simple, advanced, pytorch or xla",
    ),
    (["+trainer.plugins=abc"], "trainer.plugins=abc has no effect; leave it out"),
    (["+trainer.max_time=abc"], f"trainer.max_time=abc must be {TIME}, or null"),
    (["+trainer.max_time={a:1}"], f"trainer.max_time={{a:1}} must be {TIME}, or null"),
    (
        ["+trainer.max_time={hours:0}"],
        "trainer.max_time={hours:0} leaves no time to train; set days:hours:minutes:seconds, such "
        "as 00:08:00:00",
    ),
    (
        ["+trainer.val_check_interval=0"],
        "trainer.val_check_interval=0 must be a number of batches from 1 up, a part of an epoch "
        f"above 0.0 and up to 1.0, or {TIME}, or null",
    ),
    (
        [
            "+data.augment.x={_target_:torchvision.transforms.v2.RandomAffine,degrees:9,"
            "interpolation:{}}"
        ],
        "data.augment.x.interpolation={} must be nearest, nearest-exact, bilinear, bicubic, "
        "box, hamming or lanczos, or a whole number",
    ),
    (
        ["+trainer.callbacks=abc"],
        "trainer.callbacks=abc has no effect; leave it out, and add what you need under callbacks",
    ),
    # kinds
    (
        ["+callbacks.x._target_=os.getcwd"],
        "callbacks.x._target_=os.getcwd makes no callback; name one, such as "
        "lightning.pytorch.callbacks.EarlyStopping",
    ),
    (
        ["+data.augment.x._target_=os.getcwd"],
        "data.augment.x._target_=os.getcwd makes no transform; name one, such as "
        "torchvision.transforms.v2.RandomHorizontalFlip",
    ),
    (
        ["callbacks.pictures.folder={tmp}/a_file/x"],
        "callbacks.pictures.folder={tmp}/a_file/x cannot be written, {tmp}/a_file is a file; name "
        "another folder",
    ),
    (
        ["data._target_=lightning.LightningDataModule"],
        "data._target_=lightning.LightningDataModule makes no PairDataModule; name one, such as "
        "liverseg.data.PairDataModule or a subclass",
    ),
    # the folder of the run
    (
        ["output_dir={tmp}/a_file"],
        "output_dir={tmp}/a_file cannot be written, {tmp}/a_file is a file; name another folder",
    ),
    (
        ["output_dir={tmp}/a_file/run/1"],
        "output_dir={tmp}/a_file/run/1 cannot be written, {tmp}/a_file is a file; name another "
        "folder",
    ),
]

# What a class of ours refuses itself when it is built, which is still before data is read.
REFUSED_BY_THE_CLASS: list[tuple[list[str], str]] = [
    (["model.depth=0"], "model.depth=0 must be at least 1"),
    (["model.dropout=1"], "model.dropout=1 must lie in [0, 1)"),
    (["data.batch_size=0"], "data.batch_size=0 must be at least 1"),
    (["data.num_classes=0"], "data.num_classes=0 must lie in 1 ... 254"),
    (["fold=5"], "fold=5 must lie in 0 ... 4, as data.num_folds=5, or be null"),
    (["data.num_folds=1"], "data.num_folds=1 must be at least 2"),
    (["data.std=0"], "data.std=0 must be greater than 0"),
    (["data.mask_threshold=0"], "data.mask_threshold=0 must lie in 1 ... 65535"),
    (["data.ignore_index=-1"], "data.ignore_index=-1 must lie in 0 ... 65535"),
    (
        ["data.ignore_index=[255,1]"],
        "data.ignore_index=1 is the value of a class too; choose another, or set data.mask_values",
    ),
    (["loss=dice", "loss.smooth=0"], "loss.smooth=0 must be greater than 0"),
    (["loss=bce", "loss.class_weights=[1]"], "loss.class_weights=[1] must hold 2 positive numbers"),
    (["loss.weights=[1]"], "loss.weights=[1] must hold one factor for each of the 2 losses"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data folders, of whose files only the names are looked at, and a file."""
    folder = tmp_path_factory.mktemp("settings")
    for split in ("pairs/train", "pairs/val", "undivided/train"):
        (folder / split).mkdir(parents=True)
        for name in ("a_slice1.png", "a_slice1_mask.png"):
            (folder / split / name).touch()
    (folder / "a_file").touch()
    return folder


@cache
def chosen(choices: tuple[str, ...]) -> bytes:
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return pickle.dumps(hydra.compose("train", list(choices)))


def composed(overrides: list[str], folder: Path) -> DictConfig:
    """Do what Hydra does, but compose the same choices only once: it takes a tenth of a second."""
    typed = ["data.root={root}", "output_dir={root}/run", "trainer.accelerator=cpu"]
    typed += ["sweep_name=test", "trainer.max_epochs=1", *overrides]
    parsed = OverridesParser.create().parse_overrides([filled(one, folder) for one in typed])
    groups = {choice.partition("=")[0] for choice in CHOICES}
    choices = {one.key_or_group: one.input_line or "" for one in parsed}
    choices = {"data": "data=liver", **choices}
    config = pickle.loads(chosen(tuple(line for key, line in choices.items() if key in groups)))
    for one in parsed:
        key = one.key_or_group
        if key in groups:
            continue
        if one.is_delete():
            OmegaConf.set_struct(config, False)
            section, _, last = key.rpartition(".")
            del (OmegaConf.select(config, section) if section else config)[last]
        else:
            OmegaConf.update(config, key, one.value(), merge=True, force_add=one.is_add())
    return config


def filled(text: str, folder: Path) -> str:
    """Put the folders of a test into a text."""
    return text.replace("{root}", str(folder / "pairs")).replace("{tmp}", str(folder))


@pytest.mark.parametrize(
    ("overrides", "sentence"), BAD, ids=[" ".join(overrides)[:60] for overrides, _ in BAD]
)
def test_a_bad_setting_is_answered_by_its_sentence(
    overrides: list[str], sentence: str, folder: Path
) -> None:
    config = composed(overrides, folder)
    expected = filled(sentence, folder)
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$") as caught:
        check_settings(config)
    assert str(caught.value) == expected
    assert find_sentence(caught.value) == str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    REFUSED_BY_THE_CLASS,
    ids=[" ".join(overrides) for overrides, _ in REFUSED_BY_THE_CLASS],
)
def test_what_a_class_refuses_itself_is_left_to_it(
    overrides: list[str], sentence: str, folder: Path
) -> None:
    config = composed(overrides, folder)
    check_settings(config)
    with pytest.raises(Exception, match="Error in call to target") as caught:
        instantiate(config, _convert_="all")
    assert find_sentence(caught.value) == sentence


@pytest.mark.parametrize(
    "overrides",
    [
        ["monitor=val/loss", "monitor_mode=min", "scheduler=plateau", "callbacks=early_stopping"],
        ["monitor=val/iou_case"],
        [*THREE, "monitor=val/dice_pooled/class_2", "loss.losses.1.class_weights=[1,2,3]"],
        [*THREE, "loss=dice", "loss.class_weights=[1,2]"],
        ["loss=cross_entropy", "loss.class_weights=[1,2]"],
        ["data.channels=3", "data.mean=[0.5,0.5,0.5]"],
        ["data.mask_values=[0,[1,2]]", "data.image_size=[64,48]", "data.augment={}"],
        [*ONE_CYCLE, "+scheduler.total_steps=9", "trainer.max_epochs=9"],
        ["trainer.max_epochs=-1", "scheduler=constant", "trainer.max_steps=10"],
        ["+trainer.limit_val_batches=0.5", "trainer.precision=16", "trainer.devices=2"],
        ["optimizer=adamw", "optimizer._target_=torch.optim.Adam", "+optimizer.betas=[0.5,0.9]"],
        ["~callbacks.dashboard", "model.dilations=[1,2]"],
        ["data=phantom", "data.root={tmp}/to/be/drawn"],
        ["fold=1", "data.num_folds=2", "data.root={tmp}/undivided"],
        ["data.fold=4"],
        ["+trainer.max_time=00:00:10:00", "+trainer.val_check_interval=0.5"],
        ["+trainer.max_time={hours:1}", "+trainer.val_check_interval=3"],
        [
            "+data.augment.x={_target_:torchvision.transforms.v2.RandomAffine,degrees:9,"
            "interpolation:nearest}"
        ],
    ],
    ids=" ".join,
)
def test_what_fits_together_passes(overrides: list[str], folder: Path) -> None:
    check_settings(composed(overrides, folder))


def test_other_classes_may_have_other_keys_and_values(compose: Compose) -> None:
    config = compose([])
    OmegaConf.set_struct(config, False)
    config.model = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 1}
    config.model.kernel_size = 1
    config.loss = {"_target_": "torch.nn.MSELoss", "reduction": "sum"}
    check_settings(config)


def test_what_a_function_makes_in_the_place_of_a_loss_is_refused(folder: Path) -> None:
    config = composed([], folder)
    config.loss = {"_target_": "os.getcwd"}
    sentence = "loss._target_=os.getcwd makes no loss; name one, such as liverseg.training.CrossEn"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        check_settings(config)


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ("logits.mean()", ""),
        ("logits.mean().reshape(1)", ""),
        ("self.s * (mask.dtype == torch.uint8 and mask.shape == (2, 64, 64))", ""),
        ("{'loss': logits.mean()}", "must return one number that has a gradient; found a dict"),
        ("(logits.mean(), 0)", "must return one number that has a gradient; found a tuple"),
        ("logits.mean((1, 2, 3))", "must return one number that has a gradient; found 2 of them"),
        ("(logits > 0).float().mean()", "must return one number that has a gradient; found one wi"),
        (
            "nn.functional.cross_entropy(logits, mask)",
            "fails on float32 logits (2, 1, 64, 64) and a uint8 mask (2, 64, 64) (expected scalar "
            "type Long but found Byte); call it from a class of your own",
        ),
        ("logits.mean() + torch.zeros(1 / 0)", "(division by zero)"),
        ("self.only('of cuda:0 and cpu')", ""),
    ],
)
def test_a_loss_is_tried_on_made_up_logits(
    returned: str, sentence: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tried_losses.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Loss(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.s = nn.Parameter(torch.rand(()))\n"
        "    def only(self, where): raise RuntimeError(where)\n"
        f"    def forward(self, logits, mask): return {returned}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tried_losses", raising=False)
    config = composed([], folder)
    config.loss = {"_target_": "tried_losses.Loss"}
    before = torch.get_rng_state()
    if sentence:
        with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
            check_settings(config)
        assert str(caught.value).startswith("loss._target_=tried_losses.Loss ")
    else:
        check_settings(config)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_class_whose_module_fails_is_told_apart_from_one_that_is_misspelt(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needs_more.py").write_text("import a_package_not_here\n")
    (tmp_path / "breaks.py").write_text("1 / 0\n")
    for module, reason in {
        "needs_more": "No module named 'a_package_not_here'; install what it needs",
        "breaks": "ZeroDivisionError: division by zero; repair it",
    }.items():
        sentence = f"model._target_={module}.Net cannot be imported: {reason}"
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            check_settings(composed([f"model._target_={module}.Net"], folder))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("flips=[sideways]", "flips=[sideways] must be a list of horizontal and vertical"),
        ("flips=horizontal", "flips=horizontal must be a list of horizontal and vertical"),
        (
            "min_pixels=-1",
            "min_pixels=-1 must be a whole number from 0 up, or a mapping of classes",
        ),
        ("min_pixels={liver: x}", "min_pixels={liver:x} must be a whole number from 0 up, or a"),
        ("largest_component=3", "largest_component=3 must be true, false or a list of classes"),
        ("fill_holes=liver", "fill_holes=liver must be true, false or a list of classes"),
        ("tile_size=0", "tile_size=0 must be a whole number from 1 up, or null"),
        ("pictures=2", "pictures=2 must be true or false"),
        ("probabilities=tif", "probabilities=tif must be png or npy, or null"),
        ("batch_size=0", "batch_size=0 must be a whole number from 1 up, or null"),
        ("num_workers=-1", "num_workers=-1 must be a whole number from 0 up"),
    ],
)
def test_options_of_a_prediction_are_held_against_what_they_must_be(
    override: str, sentence: str, compose: Compose
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        check_settings(compose(["ckpt_path=a.ckpt", "source=b", override], "predict"))


def test_the_same_rules_hold_for_evaluate_and_predict(compose: Compose) -> None:
    check_settings(compose(["ckpt_path=a.ckpt"], "evaluate"))
    check_settings(compose(["ckpt_path=a.ckpt", "source=b"], "predict"))
    with pytest.raises(ValueError, match=r"^data.batch_size=many must be a whole number$"):
        check_settings(compose(["ckpt_path=a.ckpt", "data.batch_size=many"], "evaluate"))
    with pytest.raises(ValueError, match=r"^trainer.devices=0 must be auto, a number of devices"):
        check_settings(compose(["ckpt_path=a.ckpt", "source=b", "trainer.devices=0"], "predict"))


@pytest.mark.parametrize(
    ("name", "override", "sentence"),
    [
        ("evaluate", "trainer.logger=true", "trainer.logger=true has no effect; leave it out"),
        ("predict", "trainer.logger={a:1}", "trainer.logger={a:1} has no effect; leave it out"),
        ("evaluate", "+trainer.callbacks=a", "trainer.callbacks=a has no effect; leave it out"),
        (
            "evaluate",
            "+trainer.fast_dev_run=true",
            "trainer.fast_dev_run=true would leave images out; leave it out",
        ),
        (
            "predict",
            "+trainer.limit_predict_batches=1",
            "trainer.limit_predict_batches=1 would leave images out; name those that you mean "
            "with source",
        ),
        ("evaluate", "ckpt_path=''", "ckpt_path= must be a checkpoint or a list of them, or null"),
        (
            "evaluate",
            "data.white_value=0",
            "data.white_value=0 must be a whole number from 1 to 65535, or null",
        ),
        (
            "evaluate",
            'data.mask_suffix=""',
            "data.mask_suffix= must be the end of a mask's name, such as _mask",
        ),
    ],
)
def test_a_trainer_that_scores_has_all_it_needs(
    name: str, override: str, sentence: str, compose: Compose
) -> None:
    given = ["ckpt_path=a.ckpt", *(["source=b"] if name == "predict" else [])]
    given = [one for one in given if not override.startswith(one.partition("=")[0])]
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        check_settings(compose([*given, override], name))


@pytest.mark.parametrize(
    ("overrides", "gpus", "sentence"),
    [
        (["trainer.accelerator=gpu"], 0, "trainer.accelerator=gpu finds no such device here; set "),
        (["trainer.accelerator=mps"], 1, "trainer.accelerator=mps finds no such device here; set "),
        (
            ["trainer.accelerator=gpu", "trainer.devices=4"],
            2,
            "trainer.devices=4 asks for more than the 2 found here; set trainer.devices=2 or fewer",
        ),
        (["trainer.accelerator=auto", "trainer.devices=[2]"], 2, "trainer.devices=[2] asks for mo"),
        (["trainer.accelerator=auto", "trainer.devices=-1"], 0, "trainer.devices=-1 is for GPUs, "),
    ],
)
def test_a_device_that_is_not_here_is_refused(
    overrides: list[str],
    gpus: int,
    sentence: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("liverseg.checks.devices.devices_here", lambda: (gpus, False))
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        check_settings(composed(overrides, folder))


@pytest.mark.parametrize("num_classes", [1, 2, 4])
def test_the_names_that_may_be_monitored_are_those_that_are_computed(num_classes: int) -> None:
    names = ["a", "b", "c"][: max(num_classes - 1, 1)]
    scores = SegmentationScores(num_classes, names)
    mask = torch.ones(1, 2, 2, dtype=torch.uint8)
    scores.update(mask, mask, torch.tensor([0]), torch.tensor([0]))
    scores.update(mask, mask * 0 + 2, torch.tensor([1]), torch.tensor([1]))
    scores.update(mask, mask * 0 + 3, torch.tensor([2]), torch.tensor([2]))
    data = {"num_classes": num_classes, "class_names": names, "case_pattern": "(a)"}
    assert sorted(score_names(data)) == sorted(
        ["val/loss", *(f"val/{key}" for key in scores.compute())]
    )
    colours = {name: [255, index, 0] for index, name in enumerate(names)}
    data = {"num_classes": num_classes, "mask_colors": colours, "case_pattern": "(a)"}
    assert sorted(score_names(data)[1:]) == sorted(f"val/{key}" for key in scores.compute())
    assert score_names({}) == ["val/loss", *(f"val/{key}" for key in SCORES if "_case" not in key)]
    assert score_names({}, ["nsd", "hd95"])[5] == "val/nsd"


@pytest.mark.parametrize("key", ["monitor", "callbacks.early_stopping.monitor"])
@pytest.mark.parametrize("score", ["dice_case", "iou_case/class_2"])
def test_a_score_per_case_is_monitored_only_where_names_carry_cases(
    key: str, score: str, compose: Compose, pair_root: Path
) -> None:
    typed = ["callbacks=early_stopping", *THREE, f"{key}=val/{score}"]
    check_settings(compose(typed))
    for suffix in (".png", "_mask.png"):
        (pair_root / "val" / f"patient004_slice00{suffix}").rename(pair_root / f"val/one{suffix}")
    remedy = f"set data.case_pattern, or {key}=val/{score.replace('_case', '')}"
    sentence = (
        f"needs a patient in every file name, and 1 of 4 in {pair_root / 'val'} carry none, such "
        f"as one; {remedy}"
    )
    expected = f"{key}=val/{score} {sentence}"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        check_settings(compose(typed))
    folders = f"{pair_root / 'train'} and {pair_root / 'val'}"
    with pytest.raises(ValueError, match=re.escape(f"1 of 10 in {folders} carry none")):
        check_settings(compose([*typed, "fold=0"]))
    check_settings(compose([*typed, "data.case_pattern='^(.)'"]))
    check_settings(compose(typed[:-1]))


def test_the_check_leaves_nothing_in_the_folder_and_draws_no_random_number(
    compose: Compose, tmp_path: Path
) -> None:
    state = torch.random.get_rng_state()
    check_settings(compose([]))
    assert torch.equal(state, torch.random.get_rng_state())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_no_junk_anywhere_ends_in_a_traceback(compose: Compose) -> None:
    config = compose(["callbacks=early_stopping", "scheduler=plateau"])
    OmegaConf.set_struct(config, False)
    keys = [key for key in all_keys(OmegaConf.to_container(config)) if key != "output_dir"]
    assert len(keys) > 90
    junk: list[Any] = [None, "word", [1, "b"]]
    sentences = []
    for key, value in itertools.product(keys, junk):
        before = OmegaConf.select(config, key)
        OmegaConf.update(config, key, value, merge=False)
        try:
            check_settings(config)
        except ValueError as error:
            sentences.append(str(error))
        OmegaConf.update(config, key, before, merge=False)
    assert len(sentences) > 200
    assert not [one for one in sentences if "\n" in one]


def test_a_folder_with_a_table_is_told_the_command_that_divides_it(
    compose: Compose, pair_root: Path
) -> None:
    for file in sorted(pair_root.glob("*/*.png")):
        file.rename(pair_root / file.name)
    for split in ("train", "val", "test"):
        (pair_root / split).rmdir()
    divide = f"or divide it: python split.py data.root={pair_root}"
    with pytest.raises(ValueError, match=rf"holds no folder train/ .*, {re.escape(divide)}$"):
        check_settings(compose([]))
    (pair_root / "cases.csv").write_text("name,case\npatient001_slice00.png,anna\n")
    with pytest.raises(ValueError, match=rf"{re.escape(divide)} overwrite=true$"):
        check_settings(compose([]))


def test_an_official_split_by_another_name_is_to_be_renamed(
    compose: Compose, pair_root: Path
) -> None:
    (pair_root / "val").rename(pair_root / "valid")
    remedy = r"holds no folder val/ \(found test/, train/, valid/\); rename valid/ to val/$"
    with pytest.raises(ValueError, match=remedy):
        check_settings(compose([]))
    (pair_root / "train").rename(pair_root / "training")
    with pytest.raises(ValueError, match=r"; rename training/ to train/$"):
        check_settings(compose([]))
