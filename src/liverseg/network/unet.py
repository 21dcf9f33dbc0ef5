"""The U-Net: an encoder that halves, a decoder that doubles, a skip connection at every level.

Source: Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image
Segmentation", MICCAI 2015 (arXiv:1505.04597). Dilated convolutions: Yu and Koltun, "Multi-Scale
Context Aggregation by Dilated Convolutions", ICLR 2016 (arXiv:1511.07122).
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from liverseg.network import fused, winograd
from liverseg.network.gates import AttentionGate

Upsampling = Literal["transposed", "nearest", "bilinear"]
Padding = Literal["same", "valid"]
Norm = Literal["batch", "group", "instance", "none"]
_ALIGNED = 8  # channels, of 2 bytes: with fewer, a GPU takes a slow kernel
_MOST_CHANNELS = 4096  # of a level; 8192 would mean 2e9 parameters


class UNet(nn.Module):
    """A U-Net whose depth, width, reach and upsampling are free.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits; 1 is foreground against background.
        depth: Number of halvings, at least 1.
        width: Channels of the top level, doubled at each halving.
        upsampling: ``"transposed"`` learns the enlargement by a 2 x 2 transposed convolution of
            stride 2; ``"nearest"`` and ``"bilinear"`` resize, then map the channels by a 1 x 1
            convolution. Widths are the same for all three.
        dilations: Rate of all 3 x 3 convolutions of a level: one rate for every level, or the
            rates of the deepest levels, the deepest last; levels above those named have rate 1.
            ``[2, 4]`` on depth 4 means 1, 1, 1, 2, 4. A rate changes the reach, neither the
            parameters nor the sizes of the maps.
        padding: ``"same"`` gives logits of the image's size for any size. ``"valid"`` pads
            nothing, as the paper: every 3 x 3 convolution trims its border, and the logits cover
            the middle of the image (572 x 572 in, 388 x 388 out at depth 4). Bilinear upsampling
            repeats the border of its map all the same, which leaves faint seams between tiles.
        norm: What follows each 3 x 3 convolution. ``"group"`` takes 8 groups, or fewer where 8
            does not divide the channels. Without norm, convolutions are initialised as in the paper
            (normal, standard deviation sqrt(2 / fan-in)), but for the transposed ones.
        dropout: Chance to zero a value at the end of the encoder, in [0, 1).
        residual: Whether each pair of 3 x 3 convolutions is added to what it was given, mapped by a
            1 x 1 convolution where the channels differ (He et al., CVPR 2016).
        attention: Whether skip connections pass a gate, see :class:`AttentionGate`.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        depth: int,
        width: int,
        upsampling: Upsampling = "transposed",
        dilations: int | Sequence[int] = 1,
        padding: Padding = "same",
        norm: Norm = "batch",
        dropout: float = 0.0,
        residual: bool = False,
        attention: bool = False,
    ) -> None:
        super().__init__()
        for name, count in {
            "in_channels": in_channels,
            "num_classes": num_classes,
            "depth": depth,
            "width": width,
        }.items():
            if count < 1:
                raise ValueError(f"model.{name}={count} must be at least 1")
        for name, choice, choices in (
            ("upsampling", upsampling, get_args(Upsampling)),
            ("padding", padding, get_args(Padding)),
            ("norm", norm, get_args(Norm)),
        ):
            if choice not in choices:
                raise ValueError(f"model.{name}={choice} must be one of {', '.join(choices)}")
        if not 0 <= dropout < 1:
            raise ValueError(f"model.dropout={dropout} must lie in [0, 1)")
        if depth > math.log2(_MOST_CHANNELS) or width * 2**depth > _MOST_CHANNELS:
            raise ValueError(
                f"model.width={width} doubled model.depth={depth} times makes more than "
                f"{_MOST_CHANNELS} channels; lower one of them"
            )

        self.depth = depth
        self.padding = padding
        self.dilations = _rates(dilations, num_levels=depth + 1)
        channels = [width * 2**level for level in range(depth + 1)]

        self.encoder = nn.ModuleList(
            ConvBlock(
                in_channels=channels[level - 1] if level else in_channels,
                out_channels=channels[level],
                dilation=self.dilations[level],
                padding=padding,
                norm=norm,
                residual=residual,
                is_pooled=level < depth,
                is_joined=upsampling == "transposed" and padding == "same" and not attention,
            )
            for level in range(depth + 1)
        )
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.ModuleList(
            UpStep(
                deep_channels=channels[level + 1],
                skip_channels=channels[level],
                upsampling=upsampling,
                dilation=self.dilations[level],
                padding=padding,
                norm=norm,
                residual=residual,
                attention=attention,
            )
            for level in reversed(range(depth))
        )
        self.classify = nn.Conv2d(width, num_classes, kernel_size=1)
        if norm == "none":
            self.apply(_initialise_as_in_the_paper)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of shape (N, num_classes, H, W), or smaller H and W with valid padding.

        Args:
            image: Images of shape (N, in_channels, H, W), normalised.

        Raises:
            ValueError: If the image has another number of channels, if valid padding meets a size
                that cannot be halved evenly, or if a norm would see one value per channel.
        """
        if image.shape[1] != self.encoder[0].in_channels:
            raise ValueError(
                f"the network takes {self.encoder[0].in_channels} channels, the image has "
                f"{image.shape[1]}; set model.in_channels or data.channels"
            )
        height, width = image.shape[-2:]
        if self.padding == "same":
            bottom, right = (up_to_multiple(side, 2**self.depth) - side for side in (height, width))
            image = functional.pad(image, (0, right, 0, bottom), mode="replicate")
        else:
            self.output_size(height), self.output_size(width)

        if image.is_cuda and image.shape[1] == 1:
            # One channel lies in any order: say that it lies channels last, lest the gradient of
            # the first convolution be copied to another.
            image = image.clone(memory_format=torch.channels_last)

        features = image
        skips: list[Tensor] = []
        *blocks, deepest = self.encoder
        for block in blocks:
            features = block(features)  # (N, C, h, w)
            skips.append(features)
            features = fused.pooled(features)  # (N, C, h / 2, w / 2)
        features = self.dropout(deepest(features))
        for step_up in self.decoder:
            features = step_up(features, skips.pop())  # (N, C, h, w)
        logits: Tensor = self.classify(features)
        return logits[..., :height, :width]

    def output_size(self, input_size: int) -> int:
        """Return the height (or width) of the logits for an image of that height (or width).

        Raises:
            ValueError: If padding is valid and the size cannot be halved evenly on the way down.
        """
        if self.padding == "same":
            return input_size
        size = input_size
        for rate in self.dilations[:-1]:
            size -= 4 * rate  # two 3 x 3 convolutions, each trims `rate` pixels at either border
            if size % 2:
                break
            size //= 2
        else:
            size -= 4 * self.dilations[-1]
            for rate in reversed(self.dilations[:-1]):
                size = 2 * size - 4 * rate
            if size > 0:
                return size
        smallest = self.input_size(1)
        raise ValueError(
            f"valid padding cannot take an image side of {input_size} pixels at depth "
            f"{self.depth}; it takes {smallest}, {smallest + 2**self.depth}, "
            f"{smallest + 2 * 2**self.depth}, ..."
        )

    def input_size(self, output_size: int) -> int:
        """Return the smallest height (or width) whose logits span ``output_size`` pixels."""
        if self.padding == "same":
            return output_size
        size = output_size
        for rate in self.dilations[:-1]:
            size = math.ceil((size + 4 * rate) / 2)
        size += 4 * self.dilations[-1]
        for rate in reversed(self.dilations[:-1]):
            size = 2 * size + 4 * rate
        return size


class ConvBlock(nn.Module):
    """Two 3 x 3 convolutions, each followed by a norm and ReLU.

    A residual block adds what it was given, cropped around its centre where padding is valid,
    before its last ReLU.

    Args:
        in_channels: Channels of what it is given.
        out_channels: Channels of the result.
        dilation: Rate of the convolutions.
        padding: With ``"valid"`` each convolution trims ``dilation`` pixels at either border.
        norm: What follows each convolution, see :class:`UNet`.
        residual: Whether it is a residual block.
        is_pooled: Whether the result is pooled: on a GPU both cost less together.
        is_joined: Whether the result, if pooled, is a skip connection of an :class:`UpStep`, too.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        dilation: int,
        padding: Padding,
        norm: Norm,
        residual: bool = False,
        is_pooled: bool = False,
        is_joined: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.is_pooled, self.is_joined = is_pooled, is_pooled and is_joined
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers += [
                nn.Conv2d(
                    channels,
                    out_channels,
                    kernel_size=3,
                    dilation=dilation,
                    padding=dilation if padding == "same" else 0,
                ),
                _norm_layer(norm, out_channels),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        self.shortcut: nn.Module | None = None
        if residual and in_channels == out_channels:
            self.shortcut = nn.Identity()
        elif residual:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=1), _norm_layer(norm, out_channels)
            )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of shape (N, out_channels, h, w), trimmed where padding is valid."""
        given = features
        first, first_norm, activation, second, second_norm, last = self.layers
        features = _activated(first, first_norm, activation, features)
        if self.shortcut is None:
            return _activated(
                *(second, second_norm, last, features),
                is_pooled=self.is_pooled,
                is_joined=self.is_joined,
            )
        features = _convolved(second, second_norm, features)
        activated: Tensor = last(features + self.shortcut(_middle(given, features.shape)))
        return activated


class UpStep(nn.Module):
    """Double the size of the deep features, then fuse them with the skip connection.

    The enlarged features come first and the skip connection second, as in most U-Nets that are
    written by hand: the weights of such a one, loaded in order, give its logits.

    Args:
        deep_channels: Channels coming from the level below.
        skip_channels: Channels of the skip connection and of the result.
        upsampling: How the size is doubled, see :class:`UNet`.
        dilation: Rate of the 3 x 3 convolutions.
        padding: With ``"valid"`` the skip connection is cropped around its centre.
        norm: What follows each 3 x 3 convolution.
        residual: Whether the convolutions are a residual block.
        attention: Whether the skip connection passes a gate.
    """

    def __init__(
        self,
        *,
        deep_channels: int,
        skip_channels: int,
        upsampling: Upsampling,
        dilation: int,
        padding: Padding,
        norm: Norm,
        residual: bool = False,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.enlarge: nn.Module
        if upsampling == "transposed":
            self.enlarge = nn.ConvTranspose2d(deep_channels, skip_channels, 2, stride=2)
        else:
            self.enlarge = nn.Sequential(
                nn.Upsample(scale_factor=2, mode=upsampling),
                nn.Conv2d(deep_channels, skip_channels, kernel_size=1),
            )
        self.fuse = ConvBlock(
            in_channels=2 * skip_channels,
            out_channels=skip_channels,
            dilation=dilation,
            padding=padding,
            norm=norm,
            residual=residual,
        )
        self.gate = AttentionGate(skip_channels) if attention else None

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Return features of shape (N, skip_channels, 2h, 2w), trimmed where padding is valid.

        Args:
            deep: Features of shape (N, deep_channels, h, w).
            skip: Features of shape (N, skip_channels, at least 2h, at least 2w).
        """
        features: Tensor = self.fuse(self._joined(deep, skip))
        return features

    def _joined(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Return enlarged features and the skip connection in one map."""
        enlarge = self.enlarge
        is_product = self.training and isinstance(enlarge, nn.ConvTranspose2d)
        skip = _middle(skip, [2 * side for side in deep.shape])
        if is_product and self.gate is None and fused.trains_faster(skip, skip.shape[1]):
            assert isinstance(enlarge.bias, Tensor)
            return fused.joined(_four(enlarge, deep, None).flatten(0, 2), enlarge.bias, skip)
        if is_product and deep.device.type == "cpu":
            enlarged = _enlarged_by_product(enlarge, deep)
        else:
            enlarged = enlarge(deep)  # (N, skip_channels, 2h, 2w)
        if self.gate is not None:
            skip = self.gate(skip, enlarged)
        return torch.cat([enlarged, skip], dim=1)


def _enlarged_by_product(enlarge: nn.Module, deep: Tensor) -> Tensor:
    """Return what a transposed convolution of kernel 2 and stride 2 gives, by one matrix product.

    Its windows do not overlap: each pixel becomes four by itself. A CPU computes the gradients of
    the product sooner.
    """
    batch, _, height, width = deep.shape
    assert isinstance(enlarge.bias, Tensor)
    four = _four(enlarge, deep, enlarge.bias.repeat(4))
    four = four.view(batch, height, width, 2, 2, -1).transpose(2, 3)
    return four.reshape(batch, 2 * height, 2 * width, -1).movedim(-1, 1)


def _four(enlarge: nn.Module, deep: Tensor, bias: Tensor | None) -> Tensor:
    """Return the four pixels that each becomes, of shape (N, h, w, 2 * 2 * out)."""
    assert isinstance(enlarge.weight, Tensor)
    rows = enlarge.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (2 * 2 * out, in)
    return functional.linear(deep.movedim(1, -1), rows, bias)


def _middle(features: Tensor, shape: Sequence[int]) -> Tensor:
    """Crop features around their centre to the height and width of a shape."""
    height, width = shape[-2:]
    if features.shape[-2:] == (height, width):
        return features
    top, left = (features.shape[-2] - height) // 2, (features.shape[-1] - width) // 2
    return features[..., top : top + height, left : left + width]


def up_to_multiple(side: int, step: int) -> int:
    """Return the least multiple that is not below, in terms that torch.compile traces."""
    return (side + step - 1) // step * step


def _rates(dilations: int | Sequence[int], *, num_levels: int) -> list[int]:
    """Return one dilation rate per level, the deepest last."""
    named = [dilations] * num_levels if isinstance(dilations, int) else list(dilations)
    if len(named) > num_levels or any(rate < 1 for rate in named):
        raise ValueError(
            f"model.dilations={dilations} must be a rate or at most {num_levels} rates "
            f"(model.depth + 1), each at least 1"
        )
    return [1] * (num_levels - len(named)) + named


def _activated(
    convolution: nn.Module,
    norm: nn.Module,
    activation: nn.Module,
    features: Tensor,
    *,
    is_pooled: bool = False,
    is_joined: bool = False,
) -> Tensor:
    """Return features after a convolution, its norm and activation."""
    assert isinstance(convolution, nn.Conv2d)
    if not fused.trains_faster(features, convolution.out_channels) or not (
        type(norm) is nn.BatchNorm2d
        and type(activation) is nn.ReLU
        and norm.training
        and norm.momentum is not None
    ):
        activated: Tensor = activation(_convolved(convolution, norm, features))
        return activated
    assert convolution.bias is not None
    weight = convolution.weight
    if (missing := _ALIGNED - features.shape[1]) > 0:
        features, weight = (
            functional.pad(one, (0, 0, 0, 0, 0, missing)) for one in (features, weight)
        )
    features = functional.conv2d(
        features, weight, padding=convolution.padding, dilation=convolution.dilation
    )
    _refuse_single_value(norm, features)
    return fused.activated(
        features, norm, convolution.bias, is_pooled=is_pooled, is_joined=is_joined
    )


def _convolved(convolution: nn.Module, norm: nn.Module, features: Tensor) -> Tensor:
    """Return features after a convolution and its norm."""
    in_mixed_precision = features.is_cuda and torch.is_autocast_enabled("cuda")
    if in_mixed_precision and isinstance(norm, nn.BatchNorm2d) and norm.training:
        assert isinstance(convolution, nn.Conv2d)
        # An average of weights has norms take the mean of all batches, whose momentum is None.
        if norm.momentum is not None and norm.momentum < 1:
            return _convolved_without_bias(convolution, norm, features)
    if isinstance(convolution, nn.Conv2d) and winograd.trains_faster(convolution, features):
        features = winograd.convolved(convolution, features)
    else:
        features = convolution(features)
    _refuse_single_value(norm, features)
    normed: Tensor = norm(features)
    return normed


def _convolved_without_bias(
    convolution: nn.Conv2d, norm: nn.BatchNorm2d, features: Tensor
) -> Tensor:
    """Return what a convolution and its batch norm give in training, in fewer passes over maps.

    The norm takes off what a bias adds to a channel, so only the running mean is given it. Its
    gradient is 0, and not None: processes that train together wait for one of each parameter.
    """
    assert convolution.bias is not None
    assert norm.running_mean is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    features = functional.conv2d(
        features, convolution.weight, padding=convolution.padding, dilation=convolution.dilation
    )
    _refuse_single_value(norm, features)
    # Before the norm, whose backward refuses a mean that is changed later; the norm shrinks it.
    part = norm.momentum / (1 - norm.momentum)
    norm.running_mean.add_(convolution.bias.detach(), alpha=part)
    norm.num_batches_tracked.add_(1)
    return functional.batch_norm(
        features,
        norm.running_mean,
        norm.running_var,
        norm.weight,
        norm.bias + 0 * convolution.bias,
        training=True,
        momentum=norm.momentum,
        eps=norm.eps,
    )


def _norm_layer(norm: Norm, channels: int) -> nn.Module:
    match norm:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "group":
            return nn.GroupNorm(math.gcd(8, channels), channels)
        case "instance":
            return nn.InstanceNorm2d(channels, affine=True)
        case "none":
            return nn.Identity()


def _refuse_single_value(layer: nn.Module, features: Tensor) -> None:
    """Raise where a norm would see one value only, of which there is no variance."""
    batch, channels, height, width = features.shape
    match layer:
        case nn.BatchNorm2d() if layer.training:
            values = batch * height * width
        case nn.InstanceNorm2d():
            values = height * width
        case nn.GroupNorm():
            values = batch * channels // layer.num_groups * height * width
        case _:
            return
    if values == 1:
        raise ValueError(
            "a norm sees one value only at the deepest level; use larger images, a smaller "
            "model.depth or, with model.norm=batch, a larger data.batch_size and as many images"
        )


def _initialise_as_in_the_paper(module: nn.Module) -> None:
    """Draw weights of standard deviation sqrt(2 / N), N values going into one (section 3)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
