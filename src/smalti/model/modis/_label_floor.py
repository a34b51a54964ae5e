"""A linear classifier beside the network: what the same labels give without it, and whether the two part ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.metrics import balanced_accuracy_score
from torch import nn

from smalti._linear_labels import fit_linear, linear_probabilities
from smalti.metrics import fit_temperature
from smalti.model.parts import from_tensors, to_tensors

from ._belief import (
    MIN_PER_CLASS,
    LeftOut,
    accuracy_by_agreement,
    believe,
    frequent,
    leave_out,
    temperature_of,
    tempered,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Codes = NDArray[np.int64]

MIN_HELD_OUT = 30
"""Labelled validation samples of a modality above which they choose the share of the network."""
MIN_PREDICTED = 20
"""Predicted samples below which nothing can be learnt back from predictions."""
SHARES = (0.0, 0.5, 1.0)
USUAL = 0.5
"""Share of the network where held-out labels cannot tell: probabilities of both are averaged."""
SURE = 2.0
"""Standard errors by which labels must come back worse from the network than from the linear classifier."""
PLAIN = {"network": 1.0, "mixed": 1.0}
"""Temperatures of probabilities as they are."""


class FloorReport(NamedTuple):
    """What was found for one modality."""

    share: float
    """Of the network in the probabilities, in [0, 1]."""
    linear: float
    """Balanced accuracy of the linear classifier on labelled samples left out of it, in [0, 1]."""
    linear_back: float | None
    """``learnt_back`` of the linear classifier's own predictions."""
    learnt_back: float | None
    """Balanced accuracy, on the labelled samples, of a linear classifier that was trained on nothing but the network's
    predictions for the others; ``None`` if there are too few."""
    n_labelled: int

    @property
    def contradicts(self) -> bool:
        """Whether what the network says of unlabelled samples does not lead back to the labels."""
        if self.learnt_back is None or self.linear_back is None:
            return False
        wanted, found = max(self.linear, self.linear_back), self.learnt_back
        variance = (wanted * (1 - wanted) + found * (1 - found)) / max(self.n_labelled, 1)
        return bool(found < wanted - SURE * np.sqrt(variance))

    @property
    def reason(self) -> str:
        """Why the network has no say, in words."""
        if self.learnt_back is None or self.linear_back is None:
            return (
                f"logistic regression predicts the {self.n_labelled} labels that were held out better than the network "
                f"(its balanced accuracy is {self.linear:.2f})"
            )
        return (
            "what the network says of samples without a label does not lead back to the labels: a classifier trained "
            f"on these predictions has a balanced accuracy of {self.learnt_back:.2f} on the true labels, one trained "
            f"on linear predictions {self.linear_back:.2f}"
        )


class LabelFloor(nn.Module):
    r"""Logistic regression of each modality on the same labels, and its share in the probabilities.

    .. math:: p \propto \big(w\, p_\text{network}^{1/t_n} + (1 - w)\, p_\text{linear}\big)^{1/t}

    where the linear classifier distributes what the network leaves to the classes that are labelled in the modality.
    The share :math:`w` is chosen on held-out labels where there are thirty of a modality. Where there are fewer, the
    network's predictions of unlabelled samples are learnt back: a linear classifier trained on them alone is scored on
    the true labels, which it never saw (reverse validation, Zhong et al. 2010). If that is worse by two standard errors
    than the same done with predictions of the linear classifier, what the network says of unlabelled samples does not
    follow from the labels, and :math:`w = 0`.

    The temperature :math:`t` does not change which class is the most probable. Held-out labels give it where there are
    thirty. Otherwise the mixture is made as sure, on average over unlabelled samples, as it is believed to be right:
    half-way between the accuracy of the linear classifier on labels left out of it and the accuracy of the network that
    its agreement with the linear classifier implies, which is an upper bound. A linear classifier alone gets the
    temperature that suits its predictions of left-out labels. The network enters the mixture no surer on average
    (:math:`t_n`) than the mean of the linear accuracy and that of its predictions, learnt back.

    It has no parameters: training does not change it.
    """

    sizes_itself = True

    def __init__(self) -> None:
        super().__init__()
        self.linear: dict[str, dict[str, Any]] = {}
        self.shares: dict[str, float] = {}
        self.temperatures: dict[str, dict[str, float]] = {}

    def fit(
        self,
        name: str,
        x: NDArray[np.float32],
        labels: Codes,
        network: Floats,
        held_out: NDArray[np.bool_],
        left_out: Mapping[str, LeftOut] | None = None,
    ) -> FloorReport | None:
        """Fit one modality.

        Parameters
        ----------
        name
            The modality.
        x
            ``(n, d)`` encoder inputs of the samples that have it.
        labels
            ``(n,)``, -1 where not known.
        network
            ``(n, n_labels)`` probabilities of the network.
        held_out
            ``(n,)`` samples that the network was not trained on.
        left_out
            Predictions of left-out labels by modality, those of :func:`leave_out`; of this one alone by default.

        Returns
        -------
        What was found; ``None`` if fewer than two classes have two labelled samples.
        """
        for kept in (self.linear, self.shares, self.temperatures):
            kept.pop(name, None)
        known = frequent(labels)
        if known is None:
            return None
        report = self._by_held_out(name, x, labels, network, known & held_out, known & ~held_out)
        if report is None:
            own = leave_out(x, labels, known, network.shape[1]) if left_out is None else left_out[name]
            everywhere = [own] if left_out is None else list(left_out.values())
            report = self._by_left_out(name, x, labels, network, own, everywhere)
        self.linear[name] = fit_linear(x, labels, known)
        self.shares[name] = report.share
        return report

    def _by_left_out(
        self,
        name: str,
        x: NDArray[np.float32],
        labels: Codes,
        network: Floats,
        own: LeftOut,
        everywhere: Sequence[LeftOut],
    ) -> FloorReport:
        """Learn labels back, and make probabilities as sure as they are believed to be right."""
        known = own.known
        fitted = self.linear[name] = fit_linear(x, labels, known)
        linear = linear_probabilities(fitted, x, network.shape[1])
        report = FloorReport(
            USUAL,
            float(balanced_accuracy_score(own.labels, own.probabilities.argmax(axis=1))),
            _learnt_back(x, labels, linear.argmax(axis=1), known),
            _learnt_back(x, labels, network.argmax(axis=1), known),
            int(known.sum()),
        )
        report = report._replace(share=0.0 if report.contradicts else USUAL)
        belief, new = believe(own, everywhere), labels < 0
        back = report.linear if report.learnt_back is None else max(report.learnt_back, report.linear)
        found = self.temperatures[name] = dict(PLAIN)
        found["network"] = temperature_of(network[new] if new.any() else network, (report.linear + back) / 2, least=1.0)
        if report.share == 0:
            found["mixed"] = belief.temperature
        elif new.sum() >= MIN_PREDICTED:
            said = (linear[new].argmax(axis=1), network[new].argmax(axis=1))
            by_network = accuracy_by_agreement(*said, accuracy=belief.accuracy, n_classes=len(fitted["classes"]))
            mixed = self._mixed(name, x[new], network[new], report.share)
            found["mixed"] = temperature_of(mixed, (belief.accuracy + by_network) / 2)
        return report

    def mix(self, name: str, x: NDArray[np.float32], network: Floats) -> Floats:
        """Return probabilities ``(n, n_labels)`` of samples of a modality, from those of the network."""
        return network if name not in self.linear else self._mixed(name, x, network, self.shares[name])

    def _mixed(self, name: str, x: NDArray[np.float32], network: Floats, share: float) -> Floats:
        fitted = self.linear[name]
        temperatures = self.temperatures.get(name, PLAIN)
        network = tempered(network, temperatures["network"])
        linear = linear_probabilities(fitted, x, network.shape[1])
        elsewhere = np.delete(np.arange(network.shape[1]), fitted["classes"])
        left = network[:, elsewhere].sum(axis=1, keepdims=True)  # classes that only other modalities showed
        linear *= 1 - left
        linear[:, elsewhere] = network[:, elsewhere]
        return tempered(share * network + (1 - share) * linear, temperatures["mixed"])

    def _by_held_out(
        self,
        name: str,
        x: NDArray[np.float32],
        labels: Codes,
        network: Floats,
        held: NDArray[np.bool_],
        training: NDArray[np.bool_],
    ) -> FloorReport | None:
        """Choose the share of least cross-entropy on held-out labels, the usual one within a standard error of it."""
        fitted = frequent(np.where(training, labels, -1))
        if held.sum() < MIN_HELD_OUT or fitted is None:
            return None
        self.linear[name] = fit_linear(x, labels, fitted)
        own = labels[held]
        losses = {
            share: -np.log(
                np.clip(self._mixed(name, x[held], network[held], share)[np.arange(len(own)), own], 1e-6, None)
            )
            for share in SHARES
        }
        best = min(SHARES, key=lambda share: float(losses[share].mean()))
        gain = losses[USUAL] - losses[best]
        share = best if gain.mean() > gain.std() / np.sqrt(len(gain)) else USUAL
        mixed = self._mixed(name, x[held], network[held], share)
        alone = self._mixed(name, x[held], network[held], 0.0).argmax(axis=1)
        self.temperatures[name] = {**PLAIN, "mixed": fit_temperature(np.log(np.clip(mixed, 1e-12, None)), own)}
        return FloorReport(share, float(balanced_accuracy_score(own, alone)), None, None, int(held.sum()))

    # ------------------------------------------------------------------ as weights

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self.linear:
            state = to_tensors({"linear": self.linear, "shares": self.shares, "temperatures": self.temperatures})
            destination.update({prefix + name: value for name, value in state.items()})

    def _load_from_state_dict(self, state_dict: Mapping[str, torch.Tensor], prefix: str, *args: Any, **_: Any) -> None:
        state = from_tensors(state_dict, prefix)
        self.linear = {} if state is None else state["linear"]
        self.shares = {} if state is None else state["shares"]
        found = {} if state is None else state["temperatures"]
        self.temperatures = {  # stored models of old have that of the network alone
            name: each if isinstance(each, dict) else {**PLAIN, "network": each} for name, each in found.items()
        }


def _learnt_back(x: NDArray[np.float32], labels: Codes, predicted: Codes, known: NDArray[np.bool_]) -> float | None:
    unlabelled = labels < 0
    count = np.bincount(predicted[unlabelled], minlength=int(predicted.max(initial=0)) + 1)
    usable = unlabelled & (count[predicted] >= MIN_PER_CLASS)
    if usable.sum() < MIN_PREDICTED:
        return None
    if len(np.unique(predicted[usable])) < 2:
        return 1 / len(np.unique(labels[known]))  # everything is one class: no better than chance
    fitted = fit_linear(x, predicted, usable)
    found = linear_probabilities(fitted, x[known], int(max(labels.max(), predicted.max())) + 1).argmax(axis=1)
    return float(balanced_accuracy_score(labels[known], found))
