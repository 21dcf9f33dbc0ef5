"""What ``export.py`` and ``demo.py`` do."""

from pathlib import Path

from omegaconf import DictConfig

from liverseg.checkpoints import load_checkpoint, load_data, load_task
from liverseg.checks import check_settings
from liverseg.inference import plain_values, quieten
from liverseg.prediction import is_exported
from liverseg.sharing.exporting import Exported, export_checkpoint


def export(config: DictConfig) -> Exported:
    """Write a checkpoint as one file that holds all from pixels to classes, and its model card.

    Args:
        config: What ``configs/export.yaml`` composes.

    Returns:
        The files, and how they compare with the checkpoint.
    """
    quieten()
    check_settings(config)
    settings = plain_values(config)
    if not isinstance(settings["ckpt_path"], str):
        raise ValueError("ckpt_path must name one checkpoint; a file holds one network")
    file = Path(settings["ckpt_path"])
    if is_exported(file):
        raise ValueError(f"{file} is an exported file already; name the checkpoint it came from")
    checkpoint = load_checkpoint(file)
    return export_checkpoint(
        checkpoint,
        file,
        task=load_task(checkpoint, config.allow),
        data=load_data(checkpoint, {"cache_megabytes": 0}, config.allow),
        folder=Path(config.output_dir),
        format=config.format,
        takes=config.input,
    )
