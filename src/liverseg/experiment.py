"""From a config to a result: the only place where config turns into objects."""

import logging
import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, get_type_hints

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, LambdaCallback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from liverseg.checkpoints import AtomicCheckpointIO, load_checkpoint, load_weights
from liverseg.checks import check_settings
from liverseg.data import PairDataModule
from liverseg.data.volumes import Conversion, Outcome, convert_volumes, read_conversion
from liverseg.ending import (
    best_file,
    cluster,
    draw_history,
    final_trainer,
    warn_of_classes_never_found,
    warn_of_parts,
    write_report,
)
from liverseg.inference import (
    Scores,
    evaluate,
    plain_values,
    predict,
    progress_of,
    quieten,
    refuse_no_batch,
    score,
    warn_of_absent_classes,
)
from liverseg.inspection import Finding, inspect, survey
from liverseg.network import faulty_logits
from liverseg.pictures import (
    HISTORY_FILE,
    Calibration,
    History,
    draw_augmentation,
    show_result,
)
from liverseg.reports import Cell, write_findings
from liverseg.runs import (
    PRUNED_FILE,
    SCORES_FILE,
    describe_run,
    heard,
    is_first_process,
    locked,
    num_cores,
    origin,
    read_json,
    save_config,
    short_path,
    uncommitted_changes,
    write_json,
    write_text,
)
from liverseg.runs.stopping import StopTogether, stops_like_sigterm
from liverseg.scores import METRIC_CONVENTION
from liverseg.settings.values import as_typed, check_value
from liverseg.training import (
    FittingLength,
    Freezing,
    SegmentationTask,
    Split,
    bring_up_to_date,
    compile_network,
    fast_precision,
    has_stopped,
    is_limited,
    keep_freed_memory,
    start_from,
    with_rates,
    without_limits,
)

__all__ = ["Scores", "check", "evaluate", "predict", "train"]
_MOST_TOLD = 21  # lines on what became of weights
logger = logging.getLogger(__name__)


def train(config: DictConfig, begun: Mapping[str, Any] | None = None) -> Scores:
    """Train, then score the best checkpoint on val and, where it exists, on test.

    Args:
        config: What ``configs/train.yaml`` composes.
        begun: The record in the checkpoint that a run goes on from; None reads it.

    Returns:
        The final scores by their names on the dashboard, as ``metrics.json`` holds them; none if a
        search has given the run up.
    """
    quieten()
    keep_freed_memory()
    check_settings(config)
    plain_values(config)  # says what is not set
    asked = config
    config, why, is_length_known = _found_out(config, begun)
    seed_everything(config.seed, workers=True, verbose=False)
    parts = instantiate(config, _convert_="all")
    data: PairDataModule = parts["data"]
    task = _task_for(parts, config, _record_of(config, data, is_length_known))
    _refuse_faulty_logits(task, data)
    _start_from_weights(task, config)
    trainer = _trainer_for(parts, config, task, is_length_known)
    if config.compile:
        compile_network(task.net, trainer.strategy.root_device)
    logger.info(
        "%s, %s parameters%s, on %s, in %s%s",
        type(task.net).__name__,
        f"{_num_parameters(task):,}",
        parts["freezing"],
        trainer.strategy.root_device,
        trainer.precision,
        why,
    )
    _tell_what_ends(config)
    with _stopped_with_a_word(config):
        try:
            _fit(trainer, task, data, config, asked)
        except BaseException:
            draw_history(trainer, config, {})  # how far it came
            raise
        if (Path(config.output_dir) / PRUNED_FILE).exists():  # given up by a search
            draw_history(trainer, config, {})
            return {}
        best = load_checkpoint(best_file(trainer, config))
        if trainer.is_global_zero:
            logger.info("the best epoch by %s is %d", config.monitor, best["epoch"] + 1)
        final, scores = _score_best(best, task, parts, config)
    if trainer.is_global_zero:
        warn_of_absent_classes(final)
        show_result(
            trainer, plain_values(config), scores, monitor=config.monitor, step=best["global_step"]
        )
        draw_history(trainer, config, scores)
        facts: dict[str, Cell] = {
            "data": f"{data.root}: {data.counted()}",
            "classes": ", ".join(data.class_names),
            "network": f"{type(task.net).__name__}, {_num_parameters(task):,} parameters",
            "precision": str(trainer.precision),
            "epochs": _epochs_done(trainer),
            "best epoch": best["epoch"] + 1,
        }
        write_report(config, facts, task.record.get("intensities", {}), scores, best["epoch"] + 1)
        write_json(Path(config.output_dir) / SCORES_FILE, scores)  # a run that has it has ended
    return scores


def check(config: DictConfig) -> list[Finding]:
    """Look for what ruins a study in a folder of pairs, and write what is found as a page.

    Args:
        config: What ``configs/check.yaml`` composes.

    Returns:
        What is found, errors first.

    Raises:
        ValueError: If another class than :class:`~liverseg.data.PairDataModule` serves the data.
    """
    quieten()
    check_settings(config)
    plain_values(config)
    if "_target_" not in (config.get("data") or {}):
        raise ValueError("data is missing from the config; leave out ~data, or set data=pairs")
    if "cache_megabytes" in config.data:
        config.data.cache_megabytes = 0  # files are read one by one
    data = instantiate(config.data, _convert_="all")
    data.prepare_data()
    surveyed = survey(data, num_processes=num_cores())
    findings = inspect(surveyed)
    preview = _preview(data) if config.get("preview") else None
    write_findings(Path(config.output_dir), surveyed, findings, preview)
    return findings


def _preview(data: PairDataModule) -> Image.Image | str:
    """Draw what augmentation does, or say why it cannot be drawn."""
    if not data.is_augmenting:
        return "Nothing is changed: add augment=NAME to see what it does."
    try:
        return draw_augmentation(data)
    except (OSError, ValueError) as error:  # a faulty file, which is among the findings
        return f"It cannot be drawn: {error}."


def _found_out(config: DictConfig, begun: Mapping[str, Any] | None) -> tuple[DictConfig, str, bool]:
    """Return the config with what ``trainer.precision=auto`` means here, and why, for the log.

    A run that goes on computes as it has begun. Where steps or minutes limit it, it has found out
    how many epochs fit, too; whether it has is returned last.
    """
    config, why = config.copy(), ""
    trainer = config.trainer
    if trainer.get("precision") is None:  # taken out
        OmegaConf.update(config, "trainer.precision", "32-true", force_add=True)
    record = begun or {}
    if begun is None and config.resume and Path(config.resume).is_file():
        record = load_checkpoint(config.resume)["liverseg"]
    before = record.get("config", {}).get("trainer", {})
    if trainer.get("precision") == "auto":
        if record:
            trainer.precision, why = before.get("precision", "32-true"), " as it began"
        else:
            trainer.precision, why = fast_precision(trainer.get("accelerator", "auto"))
            why = f", since {why}"
    same_limits = all(before.get(key) == trainer.get(key) for key in ("max_steps", "max_time"))
    is_known = is_limited(trainer) and same_limits and "num_epochs" in record
    if is_known:
        trainer.max_epochs = record["num_epochs"]
    return config, why, is_known


def convert(config: DictConfig) -> Outcome:
    """Turn volumes and their labels into pairs.

    Args:
        config: What ``configs/convert.yaml`` composes.

    Returns:
        What is in the folder, and which volumes are not, with the reasons.

    Raises:
        ValueError: If a setting or the folder is refused, or another process converts into it.
    """
    check_settings(config)
    settings = plain_values(config)
    for word, hint in get_type_hints(Conversion, include_extras=True).items():
        check_value(word, settings[word], hint)
    how = Conversion(**{word: settings[word] for word in get_type_hints(Conversion)})
    folder = Path(config.output_dir)
    with locked(folder / ".convert.lock", wait=False) as is_mine:
        if not is_mine:
            raise ValueError(f"another process converts into {folder}; wait for it, or stop it")
        return convert_volumes(settings["source"], settings["labels"], folder, how)


def _task_for(
    parts: Mapping[str, Any], config: DictConfig, record: Mapping[str, Any]
) -> SegmentationTask:
    """Join the parts that a config describes to the task that is trained."""
    data: PairDataModule = parts["data"]
    return SegmentationTask(
        net=parts["model"],
        loss=parts["loss"],
        optimizer=with_rates(
            parts["optimizer"], parts["model"], config.get("optimizer_parts") or {}
        ),
        scheduler=parts["scheduler"],
        interval=config.get("scheduler_interval", "epoch"),  # earlier releases had no other
        num_classes=data.num_classes,
        class_names=data.class_names,
        threshold=config.threshold,
        scores=config.get("scores", ()),  # earlier releases had none to choose
        tolerance=config.get("tolerance", 2.0),
        spacing=config.get("spacing"),
        monitor=config.monitor,
        seed=config.seed,
        record=record,
    )


def _refuse_faulty_logits(task: SegmentationTask, data: PairDataModule) -> None:
    """Refuse a network whose output no loss and no score can take, before data are read."""
    try:
        fault = faulty_logits(task.net, data.channels * data.slices, data.num_classes)
    except Exception:  # it may need another size, and says so when it meets an image
        return
    if fault:
        raise ValueError(
            f"{type(task.net).__name__} {fault}; its forward is to return logits (N, "
            f"data.num_classes={data.num_classes}, H, W) alone"
        )


def _record_of(config: DictConfig, data: PairDataModule, is_length_known: bool) -> dict[str, Any]:
    """Return what every checkpoint of a run carries beside its weights."""
    record = {
        "config": plain_values(config),
        "class_names": data.class_names,
        "scores": METRIC_CONVENTION,
        **origin(),
    }
    if is_length_known:
        record["num_epochs"] = config.trainer.max_epochs
    if volumes := read_conversion(data.root):  # what predict.py has to repeat
        record["volumes"] = volumes
    return record


def _trainer_for(
    parts: dict[str, Any], config: DictConfig, task: SegmentationTask, is_length_known: bool
) -> Trainer:
    """Return the trainer of a run, with what is frozen, how long it is, and where it is logged."""

    def schedule_of(num_epochs: int) -> Any:
        config.trainer.max_epochs = num_epochs
        task.record |= {"config": plain_values(config), "num_epochs": num_epochs}
        return instantiate(config.scheduler, _convert_="all")

    parts["freezing"] = Freezing(task.net, config.get("freeze") or [], config.get("freeze_epochs"))
    callbacks = [*parts["callbacks"].values(), parts["freezing"]]
    if is_limited(config.trainer):
        callbacks.append(FittingLength(schedule_of, is_known=is_length_known))
    trainer: Trainer = parts["trainer"](
        callbacks=[*callbacks, StopTogether()],
        logger=[*_loggers(parts["logger"]), History(Path(config.output_dir) / HISTORY_FILE)],
        plugins=[AtomicCheckpointIO(), *cluster()],
        **progress_of(plain_values(config)["trainer"]),
    )
    return trainer


def _score_best(
    best: dict[str, Any], trained: SegmentationTask, parts: Mapping[str, Any], config: DictConfig
) -> tuple[SegmentationTask, Scores]:
    """Score the file that is handed on as ``evaluate.py`` does: nothing of training takes part."""
    if "pretrained" in config.model:
        config.model.pretrained = False  # the file has all weights
    fresh = {part: instantiate(config[part], _convert_="all") for part in ("model", "loss")}
    task = _task_for({**parts, **fresh}, config, trained.record)
    task.absent |= trained.absent  # what training has seen counts for the table too
    bring_up_to_date(best, task)
    task.load_state_dict(best["state_dict"])
    data, folder = parts["data"], Path(config.output_dir)
    drawn = {**parts["callbacks"], "calibration": Calibration(folder / "pictures")}
    trainer = final_trainer(plain_values(config), best, drawn)
    scores = score(trainer, task, data, "val", folder)
    if trainer.is_global_zero:
        warn_of_classes_never_found(task, config)
    if data.has_split("test"):
        scores |= score(trainer, task, data, "test", folder)
    if trainer.is_global_zero:
        warn_of_parts(task, data, config)
    return task, scores


def _num_parameters(task: SegmentationTask) -> int:
    return sum(parameter.numel() for parameter in task.net.parameters())


def _start_from_weights(task: SegmentationTask, config: DictConfig) -> None:
    """Fill the network from a file, where one is named; a run that goes on has its own weights."""
    file = config.get("weights")
    if not file or (config.resume and Path(config.resume).is_file()):
        return
    weights = load_weights(file, task)
    try:
        lines = start_from(task.net, weights)
    except ValueError as error:
        raise ValueError(f"weights={file}: {error}") from error
    if is_first_process():
        is_little = 2 * len(lines) > len(task.net.state_dict())  # most of the network starts anew
        level = logging.WARNING if is_little else logging.INFO
        logger.log(level, "starting from %s: %s", short_path(file), lines[0])
        for line in lines[1:_MOST_TOLD]:
            logger.info("  %s", line)
        parts = config.get("freeze") or []
        anew = [line for line in lines if line.endswith("it starts anew")]
        frozen = [line for line in anew if any(line.startswith(f"{part}.") for part in parts)]
        if frozen and config.get("freeze_epochs") is None:
            logger.warning(
                "%s, and freeze=%s keeps it so; freeze fewer parts, or add freeze_epochs=1",
                *(frozen[0], as_typed(list(parts))),
            )
        if more := len(lines[_MOST_TOLD:]):
            logger.info("  and %d more; is it the same network, at the same width?", more)


def _fit(
    trainer: Trainer,
    task: SegmentationTask,
    data: PairDataModule,
    config: DictConfig,
    asked: DictConfig,
) -> None:
    """Fit, from the checkpoint that is resumed if there is one.

    What a run goes on with is written when nothing has refused it, such as other pairs: a run that
    is refused can be resumed as before. ``config.yaml`` is to say what was asked for.
    """
    run = Path(config.output_dir)
    starts = run / "run.json"
    earlier = read_json(starts) if trainer.is_global_zero and starts.is_file() else []

    def keep_start() -> None:
        task.refuse_too_short()
        if not trainer.is_global_zero:
            return
        if config.resume is not None:
            save_config(asked, run)
        described = describe_run(device=str(trainer.strategy.root_device), seed=config.seed)
        write_json(starts, [*earlier, {**described, "pairs": data.state_dict()}])
        if changes := uncommitted_changes():
            write_text(run / "uncommitted.patch", changes)

    trainer.callbacks.append(  # type: ignore[attr-defined]  # set by its connector
        LambdaCallback(on_train_start=lambda *_: keep_start())
    )
    if trainer.is_global_zero:
        data.prepare_data()
        run.mkdir(parents=True, exist_ok=True)
        data.keep_hashes(run / "pairs.json")
        splits: tuple[Split, ...] = ("train", "val", "test")
        for split in filter(data.has_split, splits):
            refuse_no_batch(trainer, data, split)
        task.record["intensities"] = data.dataset("train").statistics()
    checkpoint = config.resume if config.resume and Path(config.resume).is_file() else None
    if checkpoint is not None:
        logger.info("continuing from %s", checkpoint)
    with _lines_above_the_bar() if trainer.progress_bar_callback else nullcontext():
        try:
            trainer.fit(task, datamodule=data, ckpt_path=checkpoint)
        except ValueError as error:  # before the first step: only now are the batches counted
            said = " ".join(str(error).split())
            found = re.match(r"`val_check_interval` \((\d+)\).* batches \((\d+)\)", said)
            if found is None:
                raise
            raise ValueError(
                f"trainer.val_check_interval={found[1]} is more than the {found[2]} batches of an "
                f"epoch; set it to {found[2]} or fewer"
            ) from error
    if "train" not in task.results:  # it had ended before
        keep_start()
    if not trainer.is_global_zero:
        return
    done, reason = _epochs_done(trainer), _why_it_ended(trainer)
    is_stopped = any(map(has_stopped, trainer.early_stopping_callbacks))
    if checkpoint is not None and "train" not in task.results and not is_stopped:
        logger.info(
            "epoch %d was the last one before; 'resume_overrides=[%strainer.max_epochs=%d]' trains "
            "longer",
            *(done, f"{off}," if (off := without_limits(config.trainer)) else "", 2 * done),
        )
    if reason:
        logger.info("ended after epoch %d: %s", done, reason)


def _tell_what_ends(config: DictConfig) -> None:
    """Say so where epochs are typed beside steps or minutes, which decide how many there are."""
    limits = without_limits(config.trainer)
    typed = HydraConfig.get().overrides.task if limits and HydraConfig.initialized() else []
    epochs = [one for one in typed if re.fullmatch(r"trainer\.max_epochs=\d+", one)]
    if epochs and is_first_process():
        logger.warning("%s does not end this run; add %s for that", epochs[-1], limits)


def _epochs_done(trainer: Trainer) -> int:
    """Return how many epochs a run has trained; Lightning's count lacks one that ended it."""
    progress: Any = trainer.fit_loop.epoch_progress.current  # typed as its base class
    return int(progress.processed)


def _lines_above_the_bar() -> AbstractContextManager[None]:
    """Have what is logged stand above a progress bar, not within it."""
    from tqdm.contrib.logging import logging_redirect_tqdm  # warns where a notebook has no widgets

    redirected: AbstractContextManager[None] = logging_redirect_tqdm()
    return redirected


@contextmanager
def _stopped_with_a_word(config: DictConfig) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGUSR1 end a run, once saved, with the exit status of the signal.

    Lightning ends a step before it hears SIGTERM. A second Ctrl-C waits for nothing.
    """
    number = 0

    def interrupt() -> None:
        if len(interrupts) > 1 or not callable(signal.getsignal(signal.SIGTERM)):
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGTERM)

    is_deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # in the background of a script
    with (
        stops_like_sigterm(signal.SIGUSR1) as received,
        heard(*(() if is_deaf else [signal.SIGINT]), then=interrupt) as interrupts,
    ):
        try:
            yield
        except SIGTERMException:
            number = (received or interrupts or [signal.SIGTERM])[0]
        except KeyboardInterrupt:
            number = signal.SIGINT
        except SystemExit as ended:  # what Lightning makes of Ctrl-C
            if not isinstance(ended.__context__, KeyboardInterrupt):
                raise
            number = signal.SIGINT
    if number:
        if is_first_process():
            logger.warning(
                "stopped by %s; python train.py resume=%s continues",
                *(signal.Signals(number).name, short_path(config.output_dir)),
            )
        raise SystemExit(128 + number)


def _why_it_ended(trainer: Trainer) -> str:
    """Say what ended a run before its last epoch; "" where that was reached."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # set by its connector
    for callback in callbacks:
        if isinstance(callback, FittingLength) and (reason := callback.limit_reached(trainer)):
            return reason
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= _epochs_done(trainer):
        return ""
    for callback in callbacks:
        if isinstance(callback, EarlyStopping) and has_stopped(callback):
            return f"early stopping: {callback.stopping_reason_message or callback.monitor}"
    return "a callback has stopped it"


def _loggers(made: Any) -> list[Logger]:  # a logger, several by name or in a list, or none
    """Return the loggers that a config describes."""
    if isinstance(made, Mapping):
        return list(made.values())
    return [made] if isinstance(made, Logger) else list(made or [])
