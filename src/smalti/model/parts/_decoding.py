"""From a latent to a likelihood: decoders, families, standards, masks, library sizes and sampled features, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn

from smalti.losses import FAMILIES, make_target, reconstruction_nll, take_rows, target_constant
from smalti.nn import ByModality, Decoder, ScaledInput, SparseRows, add_to_first, row_gradient, rows_of

from ._inputs import spread_rows
from ._observed import Observed, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from smalti.data import MosaicBatch
    from smalti.losses import Target
    from smalti.nn import OutputLayer

    from ._inputs import MosaicInputs
    from ._sizes import MosaicSizes

Space = Literal["values", "components"]
"""What is decoded: the values of a modality under its likelihood, or its encoder input under a normal one."""

DENSE_SHARE = 0.4
"""Share of values that are not zero from which the likelihood of all costs less than that of zeros and the rest."""


class Decoding(nn.Module):
    """The decoders of a network, and all that stands between a latent and a likelihood.

    Parameters
    ----------
    sizes
        What the data look like.
    decoders
        By modality; :meth:`width_of_target` and :meth:`family_of` say what they must put out.
    n_features_per_step
        Features of each modality that a training step decodes, drawn at random (unbiased); ``None`` for all.
    standardize
        Whether modalities with a Gaussian likelihood are decoded in units of their features' standard deviations.
    space
        See :data:`Space`. Components are neither sampled nor masked and have no library size.

    Attributes
    ----------
    row_gradients
        Whether the gradient of an output layer has the rows of this step's features only, as a sparse tensor; the
        training plan sets it if its optimiser understands such gradients.
    stream
        Where set, features of a training step are drawn by this number alone, so that all processes draw the same.
    """

    def __init__(
        self,
        sizes: MosaicSizes,
        decoders: Mapping[str, Decoder],
        *,
        n_features_per_step: int | None = None,
        standardize: bool = False,
        space: Space = "values",
    ) -> None:
        super().__init__()
        self.sizes, self.space, self.n_features_per_step = sizes, space, n_features_per_step
        self.row_gradients = False
        self.stream: int | None = None
        gaussian = FAMILIES["gaussian"]
        self.families = {
            name: gaussian if space == "components" else FAMILIES[size.likelihood]
            for name, size in sizes.modalities.items()
        }
        self.decoders: ByModality[Decoder] = ByModality(decoders)
        for name, decoder in self.decoders.items():
            decoder.log_scale.requires_grad_(self.families[name].uses_scale)
        self.standards: ByModality[ScaledInput] = ByModality(
            {
                name: ScaledInput(size.n_features, 1, log=False)
                for name, size in sizes.modalities.items()
                if standardize and space == "values" and size.likelihood == "gaussian"
            }
        )

    @torch.no_grad()
    def initialise(self, rates: Mapping[str, Tensor], standards: Mapping[str, ScaledInput]) -> None:
        """Start decoders at the mean of every feature.

        Parameters
        ----------
        rates
            ``(G,)`` by modality: mean value, or mean share of the library for likelihoods that have one.
        standards
            Fitted means and standard deviations of modalities with a Gaussian likelihood.
        """
        for name, layer in self.standards.items():
            layer.load_state_dict(standards[name].state_dict())
        if self.space == "values":
            for name, rate in rates.items():
                start = torch.zeros_like(rate) if name in self.standards else rate
                self.decoders[name].bias.copy_(self.families[name].initial_head(start))

    def covariates(self, batch: Tensor) -> Tensor | None:
        """Return one-hot batches, ``(B, n_batch)``; equal shares for -1; ``None`` if there is only one batch."""
        n = self.sizes.n_batch
        if n < 2:
            return None
        one_hot = (batch[:, None] == torch.arange(n, device=batch.device)).to(torch.get_default_dtype())
        return torch.where((batch < 0)[:, None], torch.full_like(one_hot, 1 / n), one_hot)

    # ------------------------------------------------------------------ the training side

    def step(self, minibatch: MosaicBatch, inputs: MosaicInputs) -> Step:
        """Return the minibatch as decoders see it; features, targets, masks and library sizes are made once."""
        return Step(minibatch, inputs)

    def observed(self, step: Step, name: str) -> Observed:
        """Return what modality ``name`` of the step is compared with."""
        if name not in step.seen:
            step.seen[name] = self._components(step, name) if self.space == "components" else self._values(step, name)
        return step.seen[name]

    def nll(self, step: Step, name: str, z: Tensor, rows: Tensor, *, log_scale: Tensor | None = None) -> Tensor:
        """Return the negative log-likelihood of a modality given latents.

        Parameters
        ----------
        step
            The minibatch.
        name
            Modality to decode.
        z
            ``(n, d)`` latents of the cells chosen by ``rows``.
        rows
            ``(n,)`` int64 positions of cells that have the modality; a cell may be there more than once, with several
            latents, and one call is cheaper than several. Or ``(B,)`` bool.
        log_scale
            ``(1, G)`` log scales instead of the decoder's own.

        Returns
        -------
        ``(n,)``, nats, mean over the measured features of the step.
        """
        rows = rows_of(rows)
        seen, decoder = self.observed(step, name), self.decoders[name]
        batch = seen.batch[rows]
        mask = None if seen.mask is None else seen.mask[rows]
        log_library = None if seen.log_library is None else seen.log_library[rows]
        heads = self._heads(z, name, batch, log_library, seen.features, mask, seen.output)
        target, constant = take_rows(seen.target, rows, seen.constant if log_scale is None else None)
        if log_scale is None:
            log_scale = decoder.scales(batch, output=seen.output)
        elif seen.features is not None:
            log_scale = log_scale[:, seen.features]
        with torch.autocast(z.device.type, enabled=False):
            return reconstruction_nll(self.families[name], target, heads, log_scale, mask, constant)

    # ----------------------------------------------------------------- the user's side

    def expected(
        self, z: Tensor, name: str, batch: Tensor, log_library: Tensor | None, features: Tensor | None
    ) -> Tensor:
        """Return expected values of a modality, ``(B, S)``, on the scale of its raw values.

        Parameters
        ----------
        z
            ``(B, d)`` latents.
        name
            Modality to predict.
        batch
            ``(B,)`` batch codes, -1 for an average batch.
        log_library
            ``(B,)`` log library sizes, for likelihoods that have one.
        features
            ``(S,)`` features; all by default.
        """
        decoder, family = self.decoders[name], self.families[name]
        if decoder.mean_link == "softmax" and features is not None:  # all features share the total
            heads = self._heads(z, name, batch, log_library, None, None)[:, :, features]
        else:
            heads = self._heads(z, name, batch, log_library, features, None)
        mean = family.mean(heads, decoder.scales(batch, features).expand(heads.shape[1:]))
        if name not in self.standards:
            return mean
        centre, scale = self.standards[name].centre[0], self.standards[name].scale
        spread = torch.where(scale > 0, 1 / scale.clamp(min=1e-12), torch.zeros_like(scale))
        return mean * (spread if features is None else spread[features]) + (
            centre if features is None else centre[features]
        )

    # ------------------------------------------------------------------ parts

    def _heads(
        self,
        z: Tensor,
        name: str,
        batch: Tensor,
        log_library: Tensor | None,
        features: Tensor | None,
        mask: Tensor | None,
        output: OutputLayer | None = None,
    ) -> Tensor:
        heads = self.decoders[name](z, self.covariates(batch), features, mask, output)
        if log_library is not None and self.families[name].uses_library:
            heads = add_to_first(heads, log_library[:, None])
        return heads

    def _values(self, step: Step, name: str) -> Observed:
        inputs, minibatch = step.inputs, step.minibatch
        batch, n_features = inputs.batch(minibatch), self.sizes.modalities[name].n_features
        features = self._sample_features(name, batch.device)
        values = minibatch["values"][name]
        if name in self.standards:
            x = values.to_dense(n_features) if isinstance(values, SparseRows) else values
            x = self.standards[name](x, torch.zeros_like(batch))
            target: Target = x if features is None else x.index_select(1, features)
        else:
            target = make_target(values, features, n_features, dense=self._dense_is_better(minibatch, name))
        log_library = inputs.log_library(minibatch, name) if self.families[name].uses_library else None
        output = self.decoders[name].output(features, row_gradients=self.row_gradients)
        mask = inputs.feature_mask(name, batch, features)
        gone = minibatch["missing"].get(name)
        if gone is not None:
            known = ~gone if features is None else ~gone.index_select(1, features)
            mask = known if mask is None else mask & known
        constant = target_constant(self.families[name], target, self.decoders[name].scales(batch, output=output))
        return Observed(features, target, log_library, mask, batch, output, constant)

    def _dense_is_better(self, minibatch: MosaicBatch, name: str) -> bool:
        """Return whether sparse rows are cheaper as a matrix: on a GPU, or with few zeros."""
        rows, n_features = minibatch["values"][name], self.sizes.modalities[name].n_features
        if not isinstance(rows, SparseRows) or rows.values.device.type != "cpu":
            return True
        return len(rows.values) > DENSE_SHARE * n_features * len(minibatch["cells"].having[name])

    def _components(self, step: Step, name: str) -> Observed:
        inputs, minibatch = step.inputs, step.minibatch
        here = minibatch["cells"].having[name]
        with torch.no_grad():
            target = spread_rows(inputs.encode(minibatch, name, here), here, n=len(minibatch["index"]))
        return Observed(None, target, None, None, inputs.batch(minibatch), self.decoders[name].output())

    def _sample_features(self, name: str, device: torch.device) -> Tensor | None:
        """Draw the features that this step decodes: at random in training, evenly spaced in validation."""
        wanted, n_features = self.n_features_per_step, self.sizes.modalities[name].n_features
        if wanted is None or n_features <= wanted:
            return None
        if not self.training:
            return torch.linspace(0, n_features - 1, wanted, device=device).long()
        generator = None
        if self.stream is not None:
            key = np.random.SeedSequence((self.stream, list(self.sizes.modalities).index(name)))
            generator = torch.Generator(device).manual_seed(int(key.generate_state(1)[0]))
        return torch.randperm(n_features, device=device, generator=generator)[:wanted].sort().values

    # ------------------------------------------------------------------ row gradients

    def row_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that ``row_gradients`` is about: large matrices of modalities that are sampled."""
        return [parameter for _, parameter, _ in self._rows()]

    def zero_row_gradient(self, parameter: nn.Parameter) -> Tensor:
        """Return the gradient of one of :meth:`row_parameters` on a step that has no cell for it."""
        name, axis = next((name, axis) for name, each, axis in self._rows() if each is parameter)
        features = self._sample_features(name, parameter.device)
        assert features is not None
        size = list(parameter.shape)
        size[axis] = len(features)
        return row_gradient(parameter.new_zeros(size), features, parameter.shape, axis)

    def _rows(self) -> Iterator[tuple[str, nn.Parameter, int]]:
        """Yield modality, parameter and axis of features of :meth:`row_parameters`."""
        wanted = self.n_features_per_step
        for name, decoder in self.decoders.items():
            if self.space == "values" and wanted is not None and self.sizes.modalities[name].n_features > wanted:
                for parameter, axis in ((decoder.weight, 1), (decoder.skip_weight, 0)):
                    if parameter is not None and parameter.requires_grad:
                        yield name, parameter, axis
