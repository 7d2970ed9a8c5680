"""What is hidden in pre-training: words of the text and patches of the image."""

from dmlm.masking.image import ImageMasker, MAEMask, MaskContext, NoMask, RandomMask
from dmlm.masking.text import TextMasker

__all__ = ["ImageMasker", "MAEMask", "MaskContext", "NoMask", "RandomMask", "TextMasker"]
