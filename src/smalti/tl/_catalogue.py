"""The models of smalti, one entry each: for what they are, why they are recommended, and the code that fits them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from smalti import model

if TYPE_CHECKING:
    from collections.abc import Mapping

Bridge = Literal["pairs", "labels", "links"]
"""What tells a model which profiles of two modalities belong together: paired cells, labels, linked features."""


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """What is said of a model wherever models are compared."""

    name: str
    """Name of the class in :mod:`smalti.model`."""
    what: str
    """What it does, in one line of the list of models."""
    when: str
    """What data it is for: its row in the guide "Which model"."""
    needs: tuple[Bridge, ...] = ()
    """Any one of these is enough, as long as it reaches all modalities."""
    why: str = ""
    """Reason to recommend it; numbers of the mosaic in braces."""
    wish: str = ""
    """For which wish it is a choice beside the recommended one."""
    code: tuple[str, ...] = ()
    """Lines that fit it. ``{arguments}`` are those of ``setup_mudata`` after the MuData, ``{batch_key}`` and
    ``{labels_key}`` columns as arguments, ``{links}`` the lines that make a table of links, ``{pass_links}`` the
    argument that takes it; each is empty where there is nothing to say."""

    @property
    def available(self) -> bool:
        """Whether this version of smalti has it."""
        return hasattr(model, self.name)

    @property
    def command(self) -> str:
        """Its name in ``smalti fit --model`` and in keys of ``.obsm``."""
        return self.name.lower()


MODELS: tuple[ModelEntry, ...] = (
    ModelEntry(
        name="CLUE",
        what="partly paired mosaics of any number of modalities",
        when="some cells measured in two or more modalities",
        needs=("pairs",),
        code=(
            "sm.tl.linear_joint(mdata{batch_key})  # the baseline to beat, in seconds",
            "sm.model.CLUE.setup_mudata(mdata{arguments})",
            "model = sm.model.CLUE(mdata)",
            "model.train()",
            'mdata.obsm["X_clue"] = model.get_latent_representation()',
        ),
    ),
    ModelEntry(
        name="MCA",
        what="three or more modalities, many missing; retrieval and classifiers on an embedding",
        when="three or more modalities, most of them missing in most cells; retrieval, or classifiers on an embedding",
        needs=("pairs",),
        why="There are {n_modalities} modalities, and only {filled:.0%} of all possible measurements exist.",
        code=(
            "sm.tl.linear_joint(mdata{batch_key})  # the baseline to beat, in seconds",
            "sm.model.MCA.setup_mudata(mdata{arguments})",
            "model = sm.model.MCA(mdata)",
            "model.train()",
            'mdata.obsm["X_mca"] = model.get_latent_representation()',
        ),
    ),
    ModelEntry(
        name="MODIS",
        what="no pairs, but class labels for some cells of every modality; few samples",
        when="no paired cells, or no chain of pairs between all modalities, and class labels for some cells of each",
        needs=("labels", "pairs"),
        why="{n_shared_labels} of {n_labels} labels occur in all modalities and can stand in for pairs.",
        code=(
            "sm.model.MODIS.setup_mudata(mdata{arguments}{labels_key})",
            "model = sm.model.MODIS(mdata)",
            "model.train()",
            'mdata.obsm["X_modis"] = model.get_latent_representation()',
        ),
    ),
    ModelEntry(
        name="UnpairedCCA",
        what="no pairs, but linked features (genes and their proteins or regions), or a handful of pairs",
        when="no paired cells, or no chain of pairs between all modalities, but linked features (genes and their "
        "proteins or regions); or fewer than fifty pairs",
        needs=("links", "labels", "pairs"),
        why="{n_links} can stand in for pairs: their names say which features rise and fall together.",
        wish="if cells are to be matched one by one: it takes linked features, labels and a handful of pairs as "
        "evidence, and says whether they support the match",
        code=(
            "{links}",
            "sm.model.UnpairedCCA.setup_mudata(mdata{arguments}{labels_key})",
            "model = sm.model.UnpairedCCA(mdata{pass_links})",
            "model.train()",
            "print(model.verdict)  # whether evidence that was held out supports the match",
            'mdata.obsm["X_unpairedcca"] = model.get_latent_representation()',
        ),
    ),
    ModelEntry(
        name="FusionClustering",
        what="clusters that several modalities agree on",
        when="clusters are wanted, not a latent",
        needs=("pairs",),
        wish="if clusters are what you want",
        code=(
            "sm.model.FusionClustering.setup_mudata(mdata{arguments})",
            "model = sm.model.FusionClustering(mdata)",
            "model.train()",
            "model.write_clusters(mdata)  # .obs: cluster, probability, agreement of the modalities",
            'mdata.obsm["X_fusionclustering"] = model.get_latent_representation()',
        ),
    ),
    ModelEntry(
        name="OverlapManifold",
        what="modalities that each see another part of one continuum",
        when="each modality sees another part of one continuum, and each state was measured several times",
        needs=("pairs",),
        wish="if each modality sees another part of one continuum and each state was measured several times",
        code=(
            "sm.model.OverlapManifold.setup_mudata(mdata{arguments})",
            "model = sm.model.OverlapManifold(mdata, n_latent=2)",
            "model.train()",
            "print(model.registration_table())  # how well charts fit where two modalities saw the same cells",
            'mdata.obsm["X_overlapmanifold"] = model.get_latent_representation()',
        ),
    ),
)

WIDTH = 100
"""Characters of a line of code."""
NOTHING_LINKS = "no pairs, no labels, no links"
"""Row of the guide for what no model is for."""
NO_MODEL = "no method can tell a right match from a wrong one"
"""What the guide and the recommendation say of it."""


def entry(name: str) -> ModelEntry:
    """Return the entry of a model."""
    return next(found for found in MODELS if found.name == name)


def example_code(
    name: str,
    *,
    modalities: Mapping[str, str] | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    links: str = "",
    bulk: Mapping[str, str | None] | None = None,
) -> str:
    """Return the code that fits a model to ``mdata``.

    Parameters
    ----------
    name
        Name of the model.
    modalities
        What ``setup_mudata`` is told of each modality, as code; nothing by default.
    batch_key, labels_key
        Columns with batches and labels.
    links
        Lines that make a table ``links``; empty for none.
    bulk
        Modalities that ``pp.bulk`` must prepare, with the layer that holds their values.

    Returns
    -------
    Lines of at most 100 characters, unless names are very long.
    """
    batch = f", batch_key={batch_key!r}" if batch_key else ""
    specs = [f"{key!r}: {spec}" for key, spec in (modalities or {}).items()]
    filled = {
        "arguments": (f", modalities={{{', '.join(specs)}}}" if specs else "") + batch,
        "batch_key": batch,
        "labels_key": f", labels_key={labels_key!r}" if labels_key else "",
        "links": links,
        "pass_links": ", links=links" if links else "",
    }
    long = ", modalities={\n    " + ",\n    ".join(specs) + f",\n}}{batch}"
    lines = [
        f"sm.pp.bulk(mdata, {key!r}, kind='counts'{f', layer={layer!r}' if layer else ''})"
        for key, layer in (bulk or {}).items()
    ]
    if bulk:
        lines.append("mdata = sm.pp.as_modalities(mdata)  # logarithms, in standard deviations")
    for text in entry(name).code:
        line = text.format(**filled)
        if specs and max(map(len, line.splitlines()), default=0) > WIDTH:
            line = text.format(**filled | {"arguments": long})
        lines.append(line)
    return "\n".join(line for line in lines if line)
