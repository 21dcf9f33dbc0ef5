"""The number format, and the order in memory, that a machine computes fast in.

Mixed precision computes convolutions in 16 bits and keeps weights, sums and losses in 32
(Micikevicius et al., "Mixed precision training", 2018). bfloat16 has the range of float32, so its
gradients need no scaling; float16 does not (Kalamkar et al., "A study of BFLOAT16", 2019).
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
# What autocast computes in, by precision; in any other there is none.
AUTOCAST_FORMATS = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_WIDE = 48  # channels at full size: 32 train faster with channels last, 48 and 64 with them first


def fast_precision(accelerator: str) -> tuple[Precision, str]:
    """Return the precision that ``trainer.precision=auto`` stands for here, and why.

    bf16-mixed where the processor (AMX, AVX512-BF16) or every GPU (Ampere and later) computes it,
    16-mixed on GPUs with tensor cores for float16 alone, else 32-true.

    Args:
        accelerator: Of the trainer: ``"cpu"``, ``"cuda"``, ``"gpu"``, ``"mps"``, or ``"auto"``.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return _of_gpus()
    if accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        return _of_processor()
    return "32-true", "nothing faster is known for this device"


def fast_memory_format(device: torch.device, net: nn.Module) -> torch.memory_format:
    """Return the order in memory that a network trains fast in on a device.

    Channels last: GPUs and processors with AVX-512 take it as it is, and from channels first they
    would copy. With AVX2 alone oneDNN has no such kernel for the gradients of weights, which costs
    a wide network more than the copies do.
    """
    is_old = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"
    first = next((weight for weight in net.parameters() if weight.dim() == 4), None)
    is_wide = first is not None and len(first) >= _WIDE
    return torch.contiguous_format if is_old and is_wide else torch.channels_last


def _of_processor() -> tuple[Precision, str]:
    # A mapping; torch has had it only lately.
    able: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    for feature, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")):
        if able.get(feature):
            return "bf16-mixed", f"the processor has {name}"
    return "32-true", "the processor has neither AMX nor AVX512-BF16"


def _of_gpus() -> tuple[Precision, str]:
    count = torch.cuda.device_count()
    weakest = min(torch.cuda.get_device_capability(index) for index in range(count))
    name = f"compute capability {weakest[0]}.{weakest[1]}"
    if weakest >= (8, 0) and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16-mixed", name
    return ("16-mixed", name) if weakest >= (7, 0) else ("32-true", name)
