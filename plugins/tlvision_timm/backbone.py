"""Any model of timm that gives feature maps, as a backbone: several strides, or one and a simple feature pyramid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tlvision.plugin.stages import find_stages, split_stem
from tlvision_timm.models import PROBE_SIZE, Pyramid, choose_maps, create, run, timm_model
from tlvision_timm.pyramid import STRIDES, SimplePyramid

PYRAMID_CHANNELS = 256


class TimmBackbone(nn.Module):
    """The features of one model of timm.

    name:        timm's name, for example "convnext_tiny" or "vit_small_patch14_dinov2.lvd142m".
    out_indices: positions of the maps to return. Among timm's own maps (`features_only`), or, with a pyramid, among its
                 levels of strides 4, 8, 16 and 32. None for those of strides 4 and more; of a plain transformer
                 without a pyramid, for the maps after each quarter of its blocks.
    pyramid:     "simple" makes levels of strides 4 to 32 from the last map of a plain transformer; "none" returns
                 timm's maps. "auto" is "simple" if all of timm's maps have one stride, and else "none".
    pyramid_channels: of every level of the pyramid.
    pretrained:  whether timm loads its weights when the model is built. tlvision loads weights by `model.weights`, and
                 takes this out of configs.

    A patch size that is no power of two (14, of DINOv2) makes strides that do not divide the input. The input is then
    resized inside, by 14/16: a map has stride 16 with respect to the network input, the weights are used as they are,
    and objects are shown 12 % smaller. A larger `data.image_size` makes up for it. H and W must be multiples of 32.

    channels, strides: of the returned maps. segments: names of the modules of stem and stages, below this module.

    Raises InputError if timm has no such model, or if it does not fit the other arguments.

    >>> import torch
    >>> backbone = TimmBackbone("test_convnext", out_indices=(1, 2))
    >>> [tuple(map_.shape) for map_ in backbone(torch.zeros(1, 3, 64, 96))]
    [(1, 32, 8, 12), (1, 48, 4, 6)]
    """

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] | None = None,
        pyramid: Pyramid = "auto",
        pyramid_channels: int = PYRAMID_CHANNELS,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.model, maps = timm_model(name), choose_maps(name, out_indices, pyramid, pyramid_channels)
        self.channels, self.strides = maps.channels, maps.strides
        # More maps than are returned: stages end at them.
        last = max(self.model.ends) if self.model.is_plain else max(maps.chosen)
        ends = [at for at in self.model.ends if at <= last]
        built = sorted({*ends, *(() if maps.in_levels else maps.chosen)})
        self._returned = [] if maps.in_levels else [built.index(at) for at in maps.chosen]
        self.net = create(name, out_indices=tuple(built), pretrained=pretrained, **self.model.options)
        self.pyramid: SimplePyramid | None = None
        if maps.in_levels:
            self.pyramid = SimplePyramid(
                self.model.channels[-1], self.model.strides[-1], pyramid_channels, maps.strides
            )
        self.segments = self._segments([built.index(at) for at in ends])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps, (N, C, H / s, W / s) each, fine to coarse, of images (N, 3, H, W)."""
        maps = run(self.net, images, self.model)
        if self.pyramid is not None:
            levels: tuple[Tensor, ...] = self.pyramid(maps[-1])
            return levels
        return tuple(maps[at] for at in self._returned)

    def _segments(self, ends: Sequence[int]) -> tuple[tuple[str, ...], ...]:
        """Return the names of the modules of stem and stages; ends: the positions of the maps at which stages end."""
        with _eval_mode(self.net), torch.enable_grad():
            maps = run(self.net, torch.zeros(1, 3, *PROBE_SIZE), self.model)
        stages = find_stages(self.net, "net", [maps[at] for at in ends])
        if self.model.is_plain:  # the stem ends before the first block
            first = next(at for at, path in enumerate(stages[0]) if path.rpartition(".")[2].isdigit())
            stages[:1] = [stages[0][:first], stages[0][first:]]
        elif PROBE_SIZE[0] // maps[0].shape[2] >= STRIDES[0]:
            stages[:1] = split_stem(self, stages[0])
        return tuple(tuple(stage) for stage in stages if stage)


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
