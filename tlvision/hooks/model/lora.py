"""Train low-rank updates of frozen pretrained weights.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (arXiv 2106.09685), equation 3:
W_0 + (alpha / r) * B A, A drawn at random, B = 0 at the start. The weight of a convolution, (out, in / groups, kh, kw),
is factorised as the matrix of its out rows, each of in / groups * kh * kw elements: up (out, r) times down (r, row).
Without groups that is a convolution to r channels followed by one of 1 x 1. With groups (depthwise convolutions as
well) the rows of all groups share `down`.
Differences: a layer computes with the sum as its weight, so there is one convolution and no dropout on the input of
the factors. All linear layers and 2-D convolutions outside of the head have factors, not the attention's projections
alone; query, key and value of torch's MultiheadAttention are one matrix there, and have one pair of factors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from tlvision.hooks.base import Context, ModelHook
from tlvision.hooks.plan import Plan
from tlvision.plugin import GroupMap, map_groups
from tlvision.types import InputError, counted, listing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.plugin import Adapter

FACTORS = ("lora_down", "lora_up")


class Lora(ModelHook):
    """Freeze the pretrained weights, and train two small factors for the weight of each layer, and the head.

    rank:   rank of the updates, 1 or more.
    alpha:  the product of the factors is multiplied by alpha / rank.
    groups: layer groups whose layers get factors, by name; None for all but those of the role head.

    All other parameters are frozen, norms and biases as well. A head that `groups` does not name is trained whole.
    Linear layers, attention and 2-D convolutions get factors, grouped ones too. The run counts the weights that stay
    frozen without factors: those whose factors would have as many elements, those that layers share, constants of the
    model, and those of other kinds of layers, such as transposed convolutions.

    Try three to ten times the learning rate of full fine-tuning (docs/choosing-a-method.md).

    An unknown group is an InputError with the nearest name; so is a choice that leaves no layer with factors, or
    another hook that freezes all of them.

    >>> Lora(rank=4).key()
    'lora'
    """

    def __init__(
        self,
        *,
        rank: Annotated[int, Field(ge=1)] = 8,
        alpha: Annotated[float, Field(gt=0)] = 16.0,
        groups: list[str] | None = None,
    ) -> None:
        self.rank, self.alpha, self.groups = rank, alpha, groups
        self._layers: tuple[str, ...] = ()
        self._checked = False

    def modify(self, adapter: Adapter) -> Sequence[str]:
        """Give the chosen layers factors; return a sentence with the counts of layers with and without."""
        from tlvision.hooks.model.low_rank import add_low_rank

        groups = map_groups(adapter.module, adapter.groups)
        chosen, left_out = self._choose(adapter.module, groups, self._depths(groups))
        without = listing((f"{counted(number, kind, kind)} ({why})" for (kind, why), number in left_out.items()), 9)
        if not chosen:
            raise InputError(
                f"lora: no layer of the chosen groups can have factors of rank {self.rank}"
                f"{f'; without factors: {without}' if without else ''}. Choose other groups or a lower rank."
            )
        for layer in chosen.values():
            add_low_rank(layer, self.rank, self.alpha / self.rank)
        self._layers = tuple(chosen)
        size = sum(getattr(layer, factor).numel() for layer in chosen.values() for factor in FACTORS)
        sentence = f"lora: factors of rank {self.rank} on {counted(len(chosen), 'layer')}, {size:,} parameters"
        return [f"{sentence}; frozen without factors: {without}" if without else sentence]

    def setup(self, plan: Plan) -> Plan:
        """Return the plan with everything frozen but the factors and the heads that have none."""
        with_factors = self._depths(plan.groups)
        trained = {depth for depth, group in enumerate(plan.groups.groups) if group.role == "head"} - with_factors
        factors = {f"{layer}.{factor}" for layer in self._layers for factor in FACTORS}
        frozen = [name for name, row in plan.parameters.items() if row.depth not in trained and name not in factors]
        return plan.train_from(frozen, None, "lora")

    def merge(self, adapter: Adapter) -> None:
        """Put the updates into the pretrained weights; the predictions stay the same."""
        from tlvision.hooks.model.low_rank import merge_low_rank

        for name in self._layers:
            merge_low_rank(adapter.module.get_submodule(name))

    def before_fit(self, context: Context) -> None:
        """Raise InputError if another hook freezes all factors for the whole run."""
        if not any(context.plan.parameters[f"{name}.lora_up"].trainable_from is not None for name in self._layers):
            raise InputError(
                "lora: another hook freezes all layers with factors for the whole run. Remove lora, or freeze less."
            )

    def after_backward(self, context: Context) -> None:
        """Note, once, layers whose update the model does not use: it has not run them, or has read another weight."""
        rows = context.plan.parameters
        names = [name for name in self._layers if rows[f"{name}.lora_up"].trainable_at(context.step)]
        if self._checked or not names:
            return
        self._checked = True
        idle = [name for name in names if context.adapter.module.get_submodule(name).lora_up.grad is None]
        if idle:
            context.notices.append(
                f"lora: the factors of {counted(len(idle), 'layer')} had no gradient in step {context.step}, because "
                f"the model did not use these layers: {listing(idle)}"
            )

    def _depths(self, groups: GroupMap) -> set[int]:
        """Return the depths of the layer groups whose layers get factors."""
        if self.groups is None:
            return {depth for depth, group in enumerate(groups.groups) if group.role != "head"}
        return {groups.depth_of(name) for name in self.groups}

    def _choose(
        self, module: nn.Module, groups: GroupMap, depths: set[int]
    ) -> tuple[dict[str, nn.Module], Counter[tuple[str, str]]]:
        """Return the layers that get factors by name, and how many of each kind do not, for which reason."""
        owners = Counter(
            id(weight) for _, layer in module.named_modules() for weight in layer.parameters(recurse=False)
        )
        chosen, left_out = {}, Counter[tuple[str, str]]()
        for path, layer in module.named_modules():
            for name, weight in layer.named_parameters(recurse=False):
                # A second name of a parameter is in no group.
                if weight.ndim < 2 or groups.parameters.get(f"{path}.{name}".lstrip(".")) not in depths:
                    continue
                reason = self._reason_against(layer, name, weight, shared=owners[id(weight)] > 1)
                if reason is None:
                    chosen[path] = layer
                else:
                    left_out[
                        type(layer).__name__ if name == "weight" else f"{type(layer).__name__}.{name}", reason
                    ] += 1
        return chosen, left_out

    def _reason_against(self, layer: nn.Module, name: str, weight: Tensor, *, shared: bool) -> str | None:
        """Return why a parameter gets no factors; None if it gets some."""
        from tlvision.hooks.model.low_rank import num_factors, weight_name

        if name != weight_name(layer):
            return "no weight of a linear layer, 2-D convolution or attention"
        if not weight.requires_grad:
            return "constant"
        if shared:
            return "shared by several layers"
        return "no larger than its factors" if num_factors(weight, self.rank) >= weight.numel() else None
