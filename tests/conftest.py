"""Fixtures of all tests: tiny models that build offline, and a clean environment."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

# the benchmarks are no part of the installed package; behind all others, so that dmlm is the installed one
sys.path.append(str(Path(__file__).parents[1]))

# the machine of a test run is not a clock, and a run must fail or pass the same way twice
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")
torch.set_num_threads(1)  # tiny models gain nothing from threads, and threads that wait for each other lose much

FINDINGS = ("Cardiomegaly", "Edema", "Pleural Effusion", "Pneumothorax")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Phantoms are drawn for these tests, also for fixtures of a module: another OpenCV draws other pixels."""
    with pytest.MonkeyPatch.context() as patch:
        if "DMLM_CACHE" not in os.environ:
            patch.setenv("DMLM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a test land in a temporary folder; global torch state is restored."""
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real radiographs; a test that needs it is skipped where it is absent."""
    place = Path(os.environ.get("DMLM_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (place / "manifest.csv").is_file():
        pytest.skip(f"no real radiographs at {place} (set DMLM_REAL_DATA)")
    return place


def skip_without_shards() -> None:
    """Skip where torch cannot shard on the CPU: 2.6 fails there at a stream (with GPUs it has one), 2.14 is tested."""
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 9):
        pytest.skip(f"FSDP2 needs a newer torch than {torch.__version__} on the CPU")


def gaussian(*shape: int, seed: int = 0):
    """Random distributions: means of unit deviation, log-variances between -3 and -1."""
    from dmlm.distributions import Gaussian

    generator = torch.Generator().manual_seed(seed)
    return Gaussian(torch.randn(*shape, generator=generator), torch.rand(*shape, generator=generator) * 2 - 3)


def tiny_vit(image_size: int = 32, patch_size: int = 8, dim: int = 24, **kwargs):
    from dmlm.models import TimmImageEncoder

    size = {"patch_size": patch_size, "embed_dim": dim, "depth": 2, "num_heads": 2, **kwargs}
    return TimmImageEncoder("vit_tiny_patch16_224", pretrained=False, image_size=image_size, model_kwargs=size)


def tiny_bert(dim: int = 24, max_length: int = 128, pooling: str = "cls", **hf_config):
    from dmlm.models import HFTextEncoder

    config = {
        "model_type": "bert",
        "hidden_size": dim,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 2 * dim,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        **hf_config,
    }
    return HFTextEncoder(
        "bert", pretrained=False, hf_config=config, tokenizer="library", max_length=max_length, pooling=pooling
    )


def tiny_encoder(dim: int = 24, head: str = "mlp"):
    from dmlm.models import ProbabilisticEncoder

    torch.manual_seed(0)
    return ProbabilisticEncoder(tiny_vit(dim=dim), tiny_bert(dim=dim), embed_dim=dim, head=head, num_heads=4)


def tiny_predictor(dim: int = 24):
    from dmlm.models import CrossModalPredictor

    torch.manual_seed(1)
    return CrossModalPredictor(dim, width=24, depth=1, num_heads=2)


def example_reports(count: int, seed: int = 0):
    """Structured reports with random labels."""
    from dmlm.reports import from_labels

    rng = np.random.default_rng(seed)
    values = rng.choice([1.0, 0.0, -1.0, np.nan], size=(count, len(FINDINGS)), p=[0.3, 0.4, 0.1, 0.2])
    values[:, 0] = np.where(np.isnan(values[:, 0]), 0.0, values[:, 0])
    return [from_labels(str(i), dict(zip(FINDINGS, map(float, row), strict=True))) for i, row in enumerate(values)]


def example_views(encoder, count: int = 8, seed: int = 0, ratio: float = 0.3, statements: int = 0):
    """Views of random images and example reports, as the pre-training module draws them."""
    from dmlm.masking import MaskContext, RandomMask, TextMasker
    from dmlm.objectives import Statements, Views
    from dmlm.reports import TextViews, encode_facts

    rng = np.random.default_rng(seed)
    reports = example_reports(count, seed)
    texts = [TextViews().sample(report, "", rng) for report in reports]
    tokens = encoder.tokenize(texts)
    generator = torch.Generator().manual_seed(seed)
    side = encoder.image.image_size
    images = torch.randint(0, 128, (count, 1, side, side), dtype=torch.uint8, generator=generator)
    half = side // 2
    # each finding lights up its own quarter, so there is a signal
    for image, report in zip(images, reports, strict=True):
        for place, finding in enumerate(FINDINGS):
            y, x = half * (place // 2), half * (place % 2)
            image[:, y : y + half, x : x + half] += 100 * (report.verdicts.get(finding) == "present")
    further = None
    if statements:
        drawn = [TextViews().statement(report, "", rng) for _ in range(statements) for report in reports]
        different = {text.text: text for text in drawn}
        rows = torch.tensor([list(different).index(text.text) for text in drawn])
        facts = torch.from_numpy(np.stack([encode_facts(text.statements) for text in drawn]))
        further = Statements(encoder.tokenize(list(different.values())), rows, facts, rows + count)
    return Views(
        images=images,
        tokens=tokens,
        image_mask=RandomMask(ratio)(MaskContext(images, encoder.image.patch_grid), generator),
        text_mask=TextMasker(ratio)(tokens, generator),
        report_facts=torch.from_numpy(np.stack([encode_facts(r.observations) for r in reports])),
        text_facts=torch.from_numpy(np.stack([encode_facts(t.statements) for t in texts])),
        text_keys=torch.arange(count),
        statements=further,
    )
