"""RandomBasesDescent: descent in random bases around any Keras optimizer."""

from random_bases.keras_api import GENERATION

if GENERATION == "keras3":
    from random_bases.optimizers.keras3 import RandomBasesDescent
elif GENERATION == "tf_keras":
    from random_bases.optimizers.tf_keras import RandomBasesDescent
else:
    from random_bases.optimizers.keras26 import RandomBasesDescent

__all__ = ["RandomBasesDescent"]
