"""All that differs between Keras 3, tf-keras and Keras 2.6; no other file knows which one it is.

| file                       | subject                                                              |
| -------------------------- | -------------------------------------------------------------------- |
| `generation.py`            | which Keras: that of `tf.keras`                                      |
| `common.py`, `masks.py`    | what takes a branch or two                                           |
| `adapted.py`               | what layers learned by `adapt`                                       |
| `keras2.py`, `keras3.py`   | the same functions, for how a model is made and trained in each      |
| `nested_functions.py`      | refuses `tf.function`s inside a model                                |
"""

from random_bases.keras_api.adapted import adapted_state, adapted_variables, restore_adapted
from random_bases.keras_api.common import (
    add_float32_weight,
    build_optimizer,
    check_built,
    compile_model,
    describe,
    fit_loops_over_replicas,
    fit_reduces_over_hosts,
    innermost,
    is_symbolic,
    register_serializable,
    set_random_seed,
    slots_of,
    step_is_compiled,
    steps_per_execution_of,
    strategy_of,
    supports_xla,
    trained_of,
    updates_of,
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
        layers_of,
        metrics_results,
        parameters_of,
        path_of,
        quantized_of,
        restored_epoch,
        serialize,
        tf_variable_of,
        update_metrics,
        value_of,
        variables_of,
        weights_of,
    )
else:
    from random_bases.keras_api.keras2 import (  # type: ignore[assignment]
        Substitution,
        attach_optimizer,
        clone,
        compilation,
        compiled_loss,
        deserialize,
        export_options,
        finalize,
        is_compiled,
        layers_of,
        metrics_results,
        parameters_of,
        path_of,
        quantized_of,
        restored_epoch,
        serialize,
        tf_variable_of,
        update_metrics,
        value_of,
        variables_of,
        weights_of,
    )

__all__ = [
    "GENERATION",
    "KERAS_VERSION",
    "Substitution",
    "adapted_state",
    "adapted_variables",
    "add_float32_weight",
    "attach_optimizer",
    "build_optimizer",
    "check_built",
    "clone",
    "compilation",
    "compile_model",
    "compiled_loss",
    "describe",
    "deserialize",
    "export_options",
    "finalize",
    "fit_loops_over_replicas",
    "fit_reduces_over_hosts",
    "innermost",
    "is_compiled",
    "is_symbolic",
    "keras",
    "layers_of",
    "parameters_of",
    "masks_of",
    "mean_loss",
    "metrics_results",
    "path_of",
    "quantized_of",
    "tf_variable_of",
    "register_serializable",
    "restore_adapted",
    "restored_epoch",
    "serialize",
    "set_random_seed",
    "variables_of",
    "slots_of",
    "step_is_compiled",
    "steps_per_execution_of",
    "strategy_of",
    "supports_xla",
    "trained_of",
    "update_metrics",
    "updates_of",
    "value_of",
    "weights_of",
    "with_masks",
]
