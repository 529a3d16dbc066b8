"""The means that `SubspaceModel` has in the Keras at hand."""

from random_bases.keras_api import GENERATION

if GENERATION == "keras3":
    from random_bases.models.keras3 import (
        Substitution,
        clone,
        deserialize,
        layers,
        made_to_train,
        path,
        serialize,
        state,
        value,
    )
else:
    from random_bases.models.keras2 import (
        Substitution,
        clone,
        deserialize,
        layers,
        made_to_train,
        path,
        serialize,
        state,
        value,
    )

__all__ = [
    "Substitution",
    "clone",
    "deserialize",
    "layers",
    "made_to_train",
    "path",
    "serialize",
    "state",
    "value",
]
