"""A small residual network: wide and shallow, because a CPU likes few large convolutions."""

from __future__ import annotations

from torch import Tensor, nn

STAGES = {"stage1": (32, 4), "stage2": (64, 8), "stage3": (96, 16), "stage4": (96, 32)}
"""`{name: (channels, stride in input pixels per cell)}`, from fine to coarse."""


class Residual(nn.Module):
    """Two 3x3 convolutions with batch norm, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        inner = self.act(self.norm1(self.conv1(x)))
        out: Tensor = self.act(x + self.norm2(self.conv2(inner)))
        return out


class Stem(nn.Sequential):
    """From pixels to stride 4 in one step."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(3, channels, 8, stride=4, padding=2, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )


class Backbone(nn.Module):
    """Stem and four stages; the last ends in dropout, so that there is something for a freeze to silence."""

    def __init__(self) -> None:
        super().__init__()
        widths = [channels for channels, _ in STAGES.values()]
        self.stem = Stem(widths[0])
        self.stage1 = Residual(widths[0])
        self.stage2 = nn.Sequential(*_narrow(widths[0], widths[1]), Residual(widths[1]))
        self.stage3 = nn.Sequential(*_narrow(widths[1], widths[2]), Residual(widths[2]))
        self.stage4 = nn.Sequential(*_narrow(widths[2], widths[3]), Residual(widths[3]), nn.Dropout(0.1))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to the outputs of the four stages, (N, C, H / s, W / s) each, from fine to coarse."""
        x = self.stem(images)
        outputs = []
        for name in STAGES:
            x = self.get_submodule(name)(x)
            outputs.append(x)
        return outputs


def _narrow(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    """Halve the resolution."""
    conv = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
    return conv, nn.BatchNorm2d(channels_out), nn.ReLU()
