"""The means that models are trained by other ways than `fit`'s with, in the Keras at hand."""

from random_bases.keras_api import GENERATION

if GENERATION == "keras3":
    from random_bases.models.keras3 import (
        Substitution,
        attach_optimizer,
        clone,
        compilation,
        compiled_loss,
        deserialize,
        finalize,
        is_compiled,
        layers,
        made_to_train,
        metrics_results,
        path,
        raw,
        restored_epoch,
        serialize,
        state,
        update_metrics,
        value,
    )
else:
    from random_bases.models.keras2 import (
        Substitution,
        attach_optimizer,
        clone,
        compilation,
        compiled_loss,
        deserialize,
        finalize,
        is_compiled,
        layers,
        made_to_train,
        metrics_results,
        path,
        raw,
        restored_epoch,
        serialize,
        state,
        update_metrics,
        value,
    )

__all__ = [
    "Substitution",
    "attach_optimizer",
    "clone",
    "compilation",
    "compiled_loss",
    "deserialize",
    "finalize",
    "is_compiled",
    "layers",
    "made_to_train",
    "metrics_results",
    "path",
    "serialize",
    "raw",
    "restored_epoch",
    "state",
    "update_metrics",
    "value",
]
