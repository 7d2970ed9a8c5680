"""What is hidden in pre-training: words of the text and patches of the image."""

from dmlm.masking.appearance import AppearanceMask
from dmlm.masking.atlas import Atlas, load_atlas
from dmlm.masking.attention import AttentionMask, text_patch_similarity
from dmlm.masking.guided import GuidedMask
from dmlm.masking.image import ImageMasker, MAEMask, MaskContext, MaskVLMMask, NoMask, RandomMask
from dmlm.masking.lung_field import LungField, locate_lungs
from dmlm.masking.meijering import MeijeringMask
from dmlm.masking.text import TextMasker

__all__ = [
    "AppearanceMask",
    "Atlas",
    "AttentionMask",
    "GuidedMask",
    "ImageMasker",
    "LungField",
    "MAEMask",
    "MaskContext",
    "MaskVLMMask",
    "MeijeringMask",
    "NoMask",
    "RandomMask",
    "TextMasker",
    "load_atlas",
    "locate_lungs",
    "text_patch_similarity",
]
