"""FusionClustering: one set of clusters from several modalities, and where these disagree."""

from __future__ import annotations

from ._clusters import joint_clusters, joint_latent
from ._model import FusionClustering
from ._options import FusionOptions, FusionWeights

__all__ = ["FusionClustering", "FusionOptions", "FusionWeights", "joint_clusters", "joint_latent"]
