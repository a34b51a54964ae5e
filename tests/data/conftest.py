from __future__ import annotations

import pytest
from scvi import REGISTRY_KEYS

from smalti.data import CategoryField, ModalityField, MosaicManager, resolve_modalities


@pytest.fixture
def register():
    """A function that registers a mosaic as a model's ``setup_mudata`` does, and returns the manager."""

    def register(mdata, modalities=None, *, batch_key="batch", labels_key="label"):
        fields = [
            CategoryField(REGISTRY_KEYS.BATCH_KEY, batch_key),
            CategoryField(REGISTRY_KEYS.LABELS_KEY, labels_key, missing="unknown"),
            *(ModalityField(name, spec, batch_key) for name, spec in resolve_modalities(mdata, modalities).items()),
        ]
        manager = MosaicManager(fields=fields, setup_method_args={"setup_args": {}})
        manager.register_fields(mdata)
        return manager

    return register
