"""Devices that are asked for against those that are here."""

import torch

from liverseg.settings.classes import Plain
from liverseg.settings.values import as_typed, is_whole


def devices_here() -> tuple[int, bool]:
    """Return the number of CUDA GPUs, and whether there is an Apple GPU."""
    return torch.cuda.device_count(), torch.backends.mps.is_available()


def check_device(plain: Plain) -> None:
    """Refuse devices that this computer does not have."""
    trainer = plain.get("trainer") or {}
    accelerator, devices = trainer.get("accelerator"), trainer.get("devices", 1)
    num_gpus, has_mps = devices_here()
    missing = {"gpu": not num_gpus and not has_mps, "cuda": not num_gpus, "mps": not has_mps}
    if missing.get(str(accelerator)):
        raise ValueError(
            f"trainer.accelerator={accelerator} finds no such device here; set "
            "trainer.accelerator=auto, which takes what there is"
        )
    on_gpu = num_gpus > 0 and accelerator in ("gpu", "cuda", "auto")
    wanted = max(devices) + 1 if isinstance(devices, list) else devices
    if on_gpu and is_whole(wanted) and wanted > num_gpus:
        raise ValueError(
            f"trainer.devices={as_typed(devices)} asks for more than the {num_gpus} found here; "
            f"set trainer.devices={num_gpus} or fewer"
        )
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not num_gpus and not has_mps)
    if on_cpu and (isinstance(devices, list) or devices in (-1, "-1")):
        count = len(devices) if isinstance(devices, list) else 1
        raise ValueError(
            f"trainer.devices={as_typed(devices)} is for GPUs, and training would run on the CPU; "
            f"set trainer.devices={count}, a number of processes"
        )
