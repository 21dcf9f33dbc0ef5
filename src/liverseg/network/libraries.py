"""Networks of other libraries, which come with ``pip install 'liverseg[networks]'``.

Each takes images of any size and any number of channels and gives logits of the image's size, like
the U-Net here. A library is imported when its network is built.
"""

import importlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from liverseg.network.unet import up_to_multiple

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class LibraryNetwork(nn.Module):
    """A network of a library, with what it needs done before and behind it.

    Args:
        net: Maps images to logits, or to a mapping that has them under ``out``.
        in_channels: Channels of the image.
        step: The image is continued at its border to a multiple of so many pixels.
        least: And to this many at least.
    """

    def __init__(self, net: nn.Module, *, in_channels: int, step: int, least: int = 1) -> None:
        super().__init__()
        self.net = net
        self.in_channels = in_channels
        self._step = step
        self._least = least
        self._has_batch_norm = any(isinstance(module, _NORMS) for module in net.modules())

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of shape (N, num_classes, H, W).

        Args:
            image: Images of shape (N, in_channels, H, W), normalised.

        Raises:
            ValueError: If the image has another number of channels.
        """
        if image.shape[1] != self.in_channels:
            raise ValueError(
                f"the network takes {self.in_channels} channels, the image has {image.shape[1]}; "
                "set model.in_channels or data.channels"
            )
        count, _, height, width = image.shape
        bottom, right = (self._padding(side) for side in (height, width))
        image = functional.pad(image, (0, right, 0, bottom), mode="replicate")
        if self.training and count == 1 and self._has_batch_norm:
            image = torch.cat([image, image])  # one value has no variance, at the deepest level
        given = self.net(image)
        logits: Tensor = given["out"] if isinstance(given, dict) else given
        return logits[:count, :, :height, :width]

    def _padding(self, side: int) -> int:
        return max(up_to_multiple(side, self._step), self._least) - side


class SmpUNet(LibraryNetwork):
    """The U-Net of segmentation-models-pytorch, with one of its encoders.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits.
        encoder: Its name there, such as ``resnet34``; ``tu-NAME`` takes one of timm.
        pretrained: Whether the encoder has its weights for ImageNet, which are fetched where this
            computer does not have them.

    Raises:
        ValueError: If the library is missing, has no such encoder, or cannot fetch its weights.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        encoder: str = "resnet34",
        pretrained: bool = False,
    ) -> None:
        library = _imported("segmentation_models_pytorch", "segmentation-models-pytorch")
        if ":" in encoder or "/" in encoder:  # an address, from which timm would fetch a network
            raise ValueError(
                f"model.encoder={encoder} must be the name of an encoder, such as resnet34"
            )
        try:
            net = library.Unet(
                encoder_name=encoder,
                encoder_weights="imagenet" if pretrained else None,
                in_channels=in_channels,
                classes=num_classes,
            )
        except Exception as error:  # it raises a dozen kinds
            raise _refusal(f"model.encoder={encoder}", error, pretrained=pretrained) from error
        super().__init__(net, in_channels=in_channels, step=32)


class MonaiDynUNet(LibraryNetwork):
    """The DynUNet of MONAI, which is the U-Net of nnU-Net: strided, with instance norm.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits.
        depth: Number of halvings, at least 2.
        width: Channels of the top level, doubled at each halving up to 512.
        residual: Whether its blocks are residual ones.

    Raises:
        ValueError: If MONAI is missing, or an argument is out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        depth: int = 5,
        width: int = 32,
        residual: bool = False,
    ) -> None:
        library = _imported("monai.networks.nets", "monai")
        if not 2 <= depth <= 9:
            raise ValueError(f"model.depth={depth} must lie in 2 ... 9")
        if not 1 <= width <= 512:
            raise ValueError(f"model.width={width} must lie in 1 ... 512")
        net = library.DynUNet(
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=num_classes,
            kernel_size=[3] * (depth + 1),
            strides=[1] + [2] * depth,
            upsample_kernel_size=[2] * depth,
            filters=[min(width * 2**level, 512) for level in range(depth + 1)],
            res_block=residual,
        )
        step = 2**depth
        super().__init__(net, in_channels=in_channels, step=step, least=2 * step)


class TorchvisionDeepLabV3(LibraryNetwork):
    """The DeepLabV3 of torchvision.

    Args:
        in_channels: Channels of the image. With weights for ImageNet and another number than 3, the
            first convolution begins with the mean over its three, scaled to keep what it gives.
        num_classes: Channels of the logits.
        backbone: ``resnet50``, ``resnet101`` or ``mobilenet_v3_large``.
        pretrained: Whether the backbone has its weights for ImageNet, which are fetched where this
            computer does not have them.

    Raises:
        ValueError: If there is no such backbone, or its weights cannot be fetched.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        backbone: str = "resnet50",
        pretrained: bool = False,
    ) -> None:
        library = _imported("torchvision.models.segmentation", "torchvision")
        known = ("resnet50", "resnet101", "mobilenet_v3_large")
        if backbone not in known:
            raise ValueError(f"model.backbone={backbone} must be one of {', '.join(known)}")
        try:
            net = getattr(library, f"deeplabv3_{backbone}")(
                weights=None,
                weights_backbone="DEFAULT" if pretrained else None,
                num_classes=num_classes,
                aux_loss=False,
            )
        except Exception as error:  # of the network, when weights are fetched
            raise _refusal(f"model.backbone={backbone}", error, pretrained=pretrained) from error
        if in_channels != 3:
            _take_channels(net, in_channels)
        super().__init__(net, in_channels=in_channels, step=8, least=32)


def inner_network(net: nn.Module) -> nn.Module:
    """Return the network by whose names parts and weights are called: of a library, its own."""
    return net.net if isinstance(net, LibraryNetwork) else net


def _imported(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"this network needs {package}, which is not installed; pip install "
            "'liverseg[networks]'"
        ) from error


def _refusal(key: str, error: Exception, *, pretrained: bool) -> ValueError:
    reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
    remedy = "connect, or set model.pretrained=false" if pretrained else "choose another one"
    return ValueError(f"{key} cannot be built ({reason}); {remedy}")


def _take_channels(net: nn.Module, in_channels: int) -> None:
    """Let the first convolution of a network take another number of channels."""
    name, first = next(
        (name, one) for name, one in net.named_modules() if isinstance(one, nn.Conv2d)
    )
    taking = nn.Conv2d(
        in_channels,
        first.out_channels,
        kernel_size=first.kernel_size,  # type: ignore[arg-type]  # a tuple of two
        stride=first.stride,  # type: ignore[arg-type]  # likewise
        padding=first.padding,  # type: ignore[arg-type]  # likewise
        bias=first.bias is not None,
    )
    with torch.no_grad():
        mean = first.weight.mean(dim=1, keepdim=True) * first.in_channels / in_channels
        taking.weight.copy_(mean.expand_as(taking.weight))
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, taking)
