"""Tokenizers that do not come with a pre-trained model: the vocabulary that ships with dmlm, or a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dmlm.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def _library_tokenizer() -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    from dmlm.reports.vocabulary import vocabulary_path

    words = vocabulary_path().read_text(encoding="utf-8").splitlines()
    tokenizer = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer


def own_tokenizer(which: str) -> tuple[Tokenizer, dict[str, str]]:
    """Load a tokenizer that is not a pre-trained model's own.

    Args:
        which: ``"library"``, or the path of a ``tokenizer.json``.

    Returns:
        The tokenizer, and its token for each of the roles ``pad`` and ``mask`` that it has one for.

    Raises:
        ConfigError: If there is no such file.
    """
    from tokenizers import Tokenizer

    if which == "library":
        return _library_tokenizer(), {"pad": "[PAD]", "mask": "[MASK]"}
    path = Path(which)
    if not path.is_file():
        msg = f"tokenizer must be 'auto', 'library' or a tokenizer.json; '{which}' is no file"
        raise ConfigError(msg)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises the bare class
        msg = f"{path}: not a tokenizer.json of the tokenizers library ({str(error)[:120]}); save it again"
        raise ConfigError(msg) from error
    names = {"pad": ("[PAD]", "<pad>"), "mask": ("[MASK]", "<mask>")}
    return tokenizer, {
        role: token for role, tokens in names.items() for token in tokens if tokenizer.token_to_id(token) is not None
    }
