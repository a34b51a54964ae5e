"""Imputation with intervals, for every model that decodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scvi import REGISTRY_KEYS

from smalti._errors import NotFittedError
from smalti._mudata import build_mudata
from smalti._validate import check_count, check_in_range
from smalti.data import COUNT_LIKELIHOODS, find_patterns, measured_matrix, row_maps
from smalti.model.parts import LOG1P, RAW

from ._imputation import Imputation, Stack, conformal_limits, skill_table
from ._stored_translation import StoredTranslationMixin

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

MIN_CALIBRATION = 50
"""Held-out cells below which a 90 % interval is refused: its ends would be the two or three outermost cells."""
MIN_R2 = 0.02
"""Share of variance that must be explained on held-out cells for a feature to be filled in."""


class ImputeMixin(StoredTranslationMixin):
    """``impute`` of every model that decodes."""

    def impute(
        self,
        mdata: MuData | None = None,
        *,
        target: str,
        key_added: str | None = None,
        coverage: float = 0.9,
        min_calibration: int = MIN_CALIBRATION,
    ) -> Imputation:
        """Fill in a modality where it was not measured, with intervals and the skill that supports them.

        What is filled in is a weighted mean of the model's own prediction, ridge regression and the mean of the nearest
        cells, both on the model's input components; the weights are fitted to cells held out from training, so that it
        is never much worse than the simplest. Ridge and nearest cells are then fitted to these cells, too. The ends of
        intervals are order statistics of the errors of these cells (split conformal prediction), feature by feature,
        per presence pattern: of the cell's own batch where it has enough of them, otherwise of all batches. Counts are
        spread by a uniform number before errors are taken, so that ties do not widen intervals.

        Parameters
        ----------
        mdata
            Data, those of training by default. Cells that have ``target`` are left alone.
        target
            Modality to fill in.
        key_added
            If given, ``mdata.obsm[f"{key_added}_{target}"]`` gets the table of predicted values,
            ``..._lower`` and ``..._upper`` those of the ends, and ``mdata.uns[f"{key_added}_{target}"]`` the skill.
            ``smalti.pl.latent(mdata, color=f"{key_added} {target}:FEATURE")`` draws them.
        coverage
            Share of values that shall lie in their interval.
        min_calibration
            Held-out cells that a pattern needs; with fewer its cells stay missing.

        Returns
        -------
        An ``Imputation``; print it for the skill beside ridge and nearest cells.

        Raises
        ------
        NotFittedError
            If the training data are not attached: errors are taken on their validation cells.
        ValueError
            If there is no such modality, no cell lacks it, or there was no validation.
        """
        self.check_modality(target, "target")
        check_in_range(coverage, 0.5, 0.99, "coverage")
        check_count(min_calibration, "min_calibration")
        if self.adata is None or self.train_indices_ is None:
            raise NotFittedError("Imputation is calibrated on the training data: load the model with them and train.")
        held_out = np.asarray(self.validation_indices_ if self.validation_indices_ is not None else [], dtype=np.int64)
        if not len(held_out):
            raise ValueError("The model was trained on all cells: intervals need validation cells (`train_size` < 1).")
        data = self._validate_anndata(mdata)
        names = [name for name in self.modalities if name in data.mod and name != target]
        maps = self.get_anndata_manager(data, required=True).row_maps()
        here = np.column_stack([maps[name] >= 0 for name in names])
        cells = np.flatnonzero((maps[target] < 0) & here.any(axis=1))
        if not len(cells):
            raise ValueError(f"Every cell has modality {target!r} already, or none of the others: nothing to impute.")
        patterns = find_patterns(here[cells])
        var_names = pd.Index(self.get_var_names()[target])
        blank = np.full((len(cells), len(var_names)), np.nan)
        mean, lower, upper = blank.copy(), blank.copy(), blank.copy()
        skills, rows = [], {}
        own_batches = _batches_with(self, target)
        for i, row in enumerate(patterns.rows):
            sources = [name for name, has in zip(names, row, strict=True) if has]
            at = np.flatnonzero(patterns.group == i)
            title = " + ".join(sources)
            fitted = _Pattern.fit(self, sources, target, held_out, min_calibration, own_batches)
            batch = _batch(self, data)[cells[at]]
            if fitted is None:
                rows[title, "all"] = (len(at), 0, "refused")
                continue
            skills.append((len(at), fitted.skill))
            for code in np.unique(batch):
                part = at[batch == code]
                limits, n, how = fitted.limits(int(code), coverage)
                predicted = fitted.predict(self, data, cells[part], own=bool(code in own_batches))
                for out, shift in ((mean, 0.0), (lower, limits[0]), (upper, limits[1])):
                    out[part] = fitted.back(predicted + shift)
                shown = self.batch_categories[code] if 0 <= code < len(self.batch_categories) else "all"
                rows[title, shown] = (len(part), n, how)
        skill = _pooled(skills, var_names)
        for out in (mean, lower, upper):
            out[:, ~skill["predictable"].to_numpy()] = np.nan
        index = data.obs_names[cells]
        tables = [pd.DataFrame(out, index=index, columns=var_names) for out in (mean, lower, upper)]
        calibration = pd.DataFrame.from_dict(
            rows, orient="index", columns=["n_cells", "n_calibration", "calibrated_by"]
        )
        found = Imputation(
            mean=tables[0],
            lower=tables[1],
            upper=tables[2],
            skill=skill,
            calibration=calibration,
            target=target,
            coverage=coverage,
        )
        if key_added is not None:
            key = f"{key_added}_{target}"
            for suffix, table in zip(("", "_lower", "_upper"), tables, strict=True):
                data.obsm[key + suffix] = table.reindex(data.obs_names)
            data.uns[key] = {"skill": skill, "coverage": coverage}
        return found


class _Pattern:
    """All that is fitted for cells that were measured in some modalities and not in the target."""

    stack: Stack
    skill: pd.DataFrame
    least: int
    own_batches: set[int]

    def __init__(self, sources: list[str], target: str, counts: bool) -> None:
        self.sources, self.target, self.counts = sources, target, counts
        self.residuals: dict[bool, NDArray[np.float64]] = {}
        self.whole: dict[bool, NDArray[np.float64] | None] = {}
        self.batch = np.empty(0, dtype=np.int64)

    @classmethod
    def fit(
        cls,
        model: ImputeMixin,
        sources: list[str],
        target: str,
        held_out: NDArray[np.int64],
        least: int,
        own_batches: set[int],
    ) -> _Pattern | None:
        """Fit to the cells that have sources and target; ``None`` if too few of them were held out."""
        maps = model.adata_manager.row_maps()
        having = np.flatnonzero(np.column_stack([maps[name] >= 0 for name in (*sources, target)]).all(axis=1))
        test = np.intersect1d(having, held_out)
        train = np.setdiff1d(having, held_out)
        if len(test) < least or len(train) < least:
            return None
        spec = next(f.spec for f in model.adata_manager.modality_fields if f.name == target)
        self = cls(sources, target, spec.likelihood in COUNT_LIKELIHOODS)
        self.least = least
        matrix = measured_matrix(model.adata.mod[target], spec.layer, target)
        values = _dense(matrix[maps[target][np.concatenate([train, test])]])
        y = self.forward(values)
        seen = _components(model, model.adata, train, sources), y[: len(train)]
        self.stack = Stack(*seen)
        x, y = _components(model, model.adata, test, sources), y[len(train) :]
        own = self.stack.parts(x, self.decode(model, model.adata, test, own=True))
        self.stack.fit_weights(own, y)
        mixed = self.stack.combine(own)
        self.skill = skill_table(own, mixed, y, model.get_var_names()[target])
        spread = values[len(train) :]
        if self.counts:
            jitter = np.random.default_rng(model.random_state).random(spread.shape) - 0.5
            spread = np.maximum(spread + jitter, -0.5)
        scaled = self.forward(spread)
        other = self.stack.parts(x, self.decode(model, model.adata, test, own=False))
        apart = self.stack.combine(other)
        self.residuals = {True: scaled - mixed, False: scaled - apart}
        self.whole = {True: y - mixed if self.counts else None, False: y - apart if self.counts else None}
        self.batch = _batch(model, model.adata)[test]
        self.own_batches = own_batches
        self.stack.fit(np.concatenate([seen[0], x]), np.concatenate([seen[1], y]))  # weights and errors are taken
        return self

    def limits(self, batch: int, coverage: float) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], int, str]:
        """Return the ends to add to predictions, the cells behind them, and which these are."""
        mine = self.batch == batch
        if mine.sum() >= self.least:
            whole = self.whole[True]
            own = conformal_limits(
                self.residuals[True][mine], coverage, whole=whole[mine] if whole is not None else None
            )
            return own, int(mine.sum()), "own batch"
        known = batch in self.own_batches
        residuals = self.residuals[known]
        return conformal_limits(residuals, coverage, whole=self.whole[known]), len(residuals), "all batches"

    def predict(self, model: ImputeMixin, mdata: MuData, cells: NDArray[np.int64], *, own: bool) -> NDArray[np.float64]:
        """Return predictions on the scale of the fit, ``(n, G)``."""
        decoded = self.decode(model, mdata, cells, own=own)
        return self.stack.combine(self.stack.parts(_components(model, mdata, cells, self.sources), decoded))

    def decode(self, model: ImputeMixin, mdata: MuData, cells: NDArray[np.int64], *, own: bool) -> NDArray[np.float64]:
        """Return what the model expects from the sources alone, on the scale of the fit, which is not that of counts.

        As an average batch unless the own one is known.
        """
        logged = self.counts and LOG1P in model.forms(self.target)
        options: dict[str, Any] = {"batch": "own" if own else "average", "scale": LOG1P if logged else RAW}
        if len(self.sources) == 1:
            found = model.translate(self.sources[0], self.target, mdata=mdata, indices=cells, **options)
            return self._ready(found.values, logged)
        maps = row_maps(mdata, self.sources)
        part = build_mudata({m: mdata.mod[m][maps[m][cells]].copy() for m in self.sources}, obs=mdata.obs)
        found = model.translate(None, self.target, mdata=part, **options)
        return self._ready(found.values[found.obs_names.get_indexer(mdata.obs_names[cells])], logged)

    def _ready(self, values: NDArray[Any], logged: bool) -> NDArray[np.float64]:
        return values.astype(np.float64) if logged else self.forward(values.astype(np.float64))

    def forward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values on the scale of the fit."""
        return np.log1p(values) if self.counts else values

    def back(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return raw values; those of counts are not negative."""
        return np.maximum(np.expm1(values), 0) if self.counts else values


def _components(model: ImputeMixin, mdata: MuData, cells: NDArray[np.int64], sources: list[str]) -> NDArray[np.float64]:
    """Return encoder inputs of the sources side by side, ``(n, d)``."""
    inputs = model.module.inputs
    parts = []
    for minibatch in model.iterate(mdata, cells):
        everyone = torch.ones(len(minibatch["batch"]), dtype=torch.bool, device=model.module.device)
        found = [inputs.encode(minibatch, name, everyone) for name in sources]
        parts.append(torch.cat(found, dim=1).double().cpu().numpy())
    return np.concatenate(parts)


def _batch(model: ImputeMixin, mdata: MuData) -> NDArray[np.int64]:
    return np.asarray(model.get_anndata_manager(mdata, required=True).codes()[REGISTRY_KEYS.BATCH_KEY])


def _batches_with(model: ImputeMixin, target: str) -> set[int]:
    """Return the batches of training in which the target was measured."""
    rows = model.adata_manager.row_maps()[target]
    return set(np.unique(_batch(model, model.adata)[rows >= 0]).tolist())


def _dense(matrix: Any) -> NDArray[np.float64]:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=np.float64)


def _pooled(skills: list[tuple[int, pd.DataFrame]], names: pd.Index) -> pd.DataFrame:
    """Return the skill over patterns, weighted by the cells that they fill in."""
    columns = ["rmse", "rmse_model", "rmse_ridge", "rmse_knn", "r2"]
    if not skills:
        return pd.DataFrame(np.nan, index=names, columns=columns).assign(predictable=False)
    total = sum(n for n, _ in skills)
    table = pd.DataFrame(sum(n / total * skill[columns] for n, skill in skills))
    return table.assign(predictable=table["r2"] > MIN_R2)
