"""Layers that Keras does not have. Imports Keras, so it is to be imported where a network is built, not at the top."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("helpers")
class FixedNormalization(keras.layers.BatchNormalization):
    """Batch normalisation by the stored means and variances, in training as well; its scale and shift may learn.

    Calling Keras's own layer with training=False does not last: a model that trains calls its layers anew. Setting
    its `trainable` to False would freeze scale and shift too.
    """

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)
