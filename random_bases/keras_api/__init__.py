"""All that differs between Keras 3, tf-keras and Keras 2.6; no other file knows which one it is.

| file                       | subject                                                              |
| -------------------------- | -------------------------------------------------------------------- |
| `generation.py`            | which Keras: that of `tf.keras`                                      |
| `common.py`, `masks.py`    | what takes a branch or two                                           |
| `keras2.py`, `keras3.py`   | the same functions, for how a model is made and trained in each      |
| `traces.py`                | what a `tf.function` inside a model would keep                       |
"""

from random_bases.keras_api.common import (
    add_float32_weight,
    build_optimizer,
    compile_model,
    register_serializable,
    set_random_seed,
    step_is_compiled,
    steps_per_execution_of,
    strategy_of,
)
from random_bases.keras_api.generation import GENERATION, KERAS_VERSION, keras
from random_bases.keras_api.masks import masks_of, mean_loss, with_masks

if GENERATION == "keras3":
    from random_bases.keras_api.keras3 import (
        Substitution,
        attach_optimizer,
        clone,
        compilation,
        compiled_loss,
        deserialize,
        export_options,
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
    from random_bases.keras_api.keras2 import (
        Substitution,
        attach_optimizer,
        clone,
        compilation,
        compiled_loss,
        deserialize,
        export_options,
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
    "GENERATION",
    "KERAS_VERSION",
    "Substitution",
    "add_float32_weight",
    "attach_optimizer",
    "build_optimizer",
    "clone",
    "compilation",
    "compile_model",
    "compiled_loss",
    "deserialize",
    "export_options",
    "finalize",
    "is_compiled",
    "keras",
    "layers",
    "made_to_train",
    "masks_of",
    "mean_loss",
    "metrics_results",
    "path",
    "raw",
    "register_serializable",
    "restored_epoch",
    "serialize",
    "set_random_seed",
    "state",
    "step_is_compiled",
    "steps_per_execution_of",
    "strategy_of",
    "update_metrics",
    "value",
    "with_masks",
]
