"""Attention gates: what of a skip connection is let through, decided by the deeper features.

Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018
(arXiv:1804.03999).
"""

from torch import Tensor, nn
from torch.nn.functional import relu


class AttentionGate(nn.Module):
    """Weigh each pixel of a skip connection between 0 and 1.

    ``skip * sigmoid(psi(relu(theta(skip) + phi(deep))))``, the three being 1 x 1 convolutions. The
    deep features come enlarged to the size of the skip connection, where the paper shrinks the
    latter and enlarges the weights.

    Args:
        channels: Of the skip connection, and of the enlarged features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        between = max(channels // 2, 1)
        self.theta = nn.Conv2d(channels, between, kernel_size=1, bias=False)
        self.phi = nn.Conv2d(channels, between, kernel_size=1)
        self.psi = nn.Conv2d(between, 1, kernel_size=1)

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        """Return the weighed skip connection; both inputs are of shape (N, channels, h, w)."""
        weight = self.psi(relu(self.theta(skip) + self.phi(deep))).sigmoid()  # (N, 1, h, w)
        weighed: Tensor = skip * weight
        return weighed
