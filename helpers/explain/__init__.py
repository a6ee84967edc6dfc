"""Explanations of a classifier: occlusion, saliency and Shapley maps, in one form, and their scores.

Every method has one signature, `method(classifier, images, target, **settings) -> Maps`: images are uint8
(n, size, size), `target` a class name or one an image, and the maps have the images' own pixels.
"""

from helpers.explain.classifier import Classifier, from_head, from_model
from helpers.explain.maps import Maps, class_codes

__all__ = ["Classifier", "Maps", "class_codes", "from_head", "from_model"]
