"""Store one tiny model of every class with its latent, as a golden file of the version that runs this.

    python scripts/make_golden.py tests/golden/0.1

``tests/test_golden.py`` loads them with every later version. Files of earlier versions are never made anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from _factories import make_mosaic
from contract._models import ONE_PER_CLASS

SMALL: dict[str, dict[str, Any]] = {
    "CLUE": {"n_latent": 2, "n_hidden": 4, "options": {"n_align": 3, "align_hidden": 4, "n_aligners": 1}},
    "MCA": {
        "options": {"n_latent": 4, "n_layers": 1, "n_heads": 1, "n_fusion": 1, "n_tokens": 2, "n_hidden": 4},
        "weights": {"reconstruction": 0.1},
    },
    "MODIS": {"options": {"n_latent": 3, "n_private": 2, "widths": (4,), "discriminator_widths": (4,)}},
    "UnpairedCCA": {"options": {"n_latent": 3, "n_hidden": 4, "n_permutations": 0}},
    "FusionClustering": {"n_clusters": 3, "options": {"n_latent": 3, "n_hidden": 4, "n_layers": 1}},
    "OverlapManifold": {"options": {"n_hidden": 4, "n_burst": 8}},
}


def main(folder: Path) -> None:
    """Store the models in a folder."""
    for spec in ONE_PER_CLASS:
        mdata = make_mosaic(n_obs=40, n_features={"a": 8, "b": 6, "c": 5}, pattern="paired", n_batches=2)
        spec.setup(mdata)
        model = spec.cls(mdata, **SMALL[spec.cls.__name__])
        model.train(2, batch_size=16, progress=False, accelerator="cpu")
        model.save(folder / spec.cls.__name__)
        latent = np.round(model.get_latent_representation().astype(float), 6).tolist()
        (folder / spec.cls.__name__ / "latent.json").write_text(json.dumps(latent))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
