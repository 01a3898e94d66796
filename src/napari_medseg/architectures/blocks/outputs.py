"""The outputs of a network in training: its logits, those of deep supervision, and those of further heads.

N: batch. K: classes. *size: (Z, Y, X) or (Y, X).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Outputs:
    """The value that a network with deep supervision or further heads returns in training; else it returns the logits.

    A network with a memory returns it in evaluation too: its caller reads the quality of the mask.
    """

    logits: Tensor
    """(N, K, *size), of the size of the input."""
    auxiliary: tuple[Tensor, ...] = ()
    """Logits of other decoder levels or parts (N, K, *size or smaller), in the order of their weights in the loss."""
    heads: Mapping[str, Tensor] = field(default_factory=dict)
    """The outputs of heads that have a loss of their own: {name: tensor}."""

    @classmethod
    def of(cls, supervised: Sequence[Tensor], heads: Mapping[str, Tensor] | None = None) -> Tensor | Outputs:
        """Outputs of all supervised logits, those of full size first; those logits alone where nothing is with them."""
        first, *others = supervised
        return cls(first, tuple(others), heads or {}) if others or heads else first

    @property
    def supervised(self) -> tuple[Tensor, ...]:
        """All logits that the supervised loss reads, those of the input's size first."""
        return (self.logits, *self.auxiliary)

    def map(self, change: Callable[[Tensor], Tensor]) -> Outputs:
        """The same value with every tensor changed."""
        return Outputs(
            change(self.logits),
            tuple(change(logits) for logits in self.auxiliary),
            {name: change(output) for name, output in self.heads.items()},
        )


def logits_of(outputs: Tensor | Outputs) -> Tensor:
    """The logits (N, K, *size) at the size of the input, of any network, in training or not."""
    return outputs.logits if isinstance(outputs, Outputs) else outputs


def supervised_logits(outputs: Tensor | Outputs) -> tuple[Tensor, ...]:
    """All logits that the supervised loss reads, those of the input's size first."""
    return outputs.supervised if isinstance(outputs, Outputs) else (outputs,)
