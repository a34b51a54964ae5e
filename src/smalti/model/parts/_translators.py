"""What translates between modalities, among the weights of a network."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from torch import nn

from ._kernel_ridge import KernelFeatures
from ._rates import RateCalibration
from ._state import from_tensors, to_tensors
from ._translator import PairTranslator

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL = ""
"""In place of a source: all that a cell has."""


class Translator(nn.Module):
    """Fitted translators of all linked pairs of modalities, among the weights of a network.

    It has no parameters: training does not change it. Before it is fitted its state is empty.
    """

    sizes_itself = True

    def __init__(self) -> None:
        super().__init__()
        self.pairs: dict[tuple[str, str], PairTranslator] = {}
        self.rates: dict[tuple[str, str], RateCalibration] = {}
        """By source (or :data:`ALL`) and target, what decoded rates need to add up."""

    def sources(self, names: Sequence[str], target: str) -> list[str]:
        """Return the modalities among ``names`` that a translator to ``target`` was fitted for."""
        return [name for name in names if (name, target) in self.pairs]

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if not self.pairs and not self.rates:
            return
        pairs = [
            {"pair": list(at), **asdict(found), "features": found.features.state()} for at, found in self.pairs.items()
        ]
        state = {"pairs": pairs, "rates": [{"pair": list(at), **asdict(one)} for at, one in self.rates.items()]}
        for name, value in to_tensors(state).items():
            destination[prefix + name] = value

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        self.pairs, self.rates = {}, {}
        state = from_tensors(state_dict, prefix) or []
        if isinstance(state, list):  # as stored before rates were calibrated
            state = {"pairs": state, "rates": []}
        for each in state["pairs"]:
            first, second = each.pop("pair")
            each["features"] = KernelFeatures(**each["features"])
            self.pairs[first, second] = PairTranslator(**each)
        for each in state["rates"]:
            first, second = each.pop("pair")
            self.rates[first, second] = RateCalibration(**each)
