"""Batches in chunks give the loss and the gradients of the whole batch, and keep the activations of none."""

from __future__ import annotations

import pytest
import torch
from conftest import example_views, tiny_bert, tiny_encoder, tiny_predictor, tiny_vit

from dmlm.models import ProbabilisticEncoder
from dmlm.objectives import ObjectiveConfig, PretrainingObjective
from dmlm.objectives.chunks import InChunks

CONFIGS = {
    "default": ObjectiveConfig(),
    "joint": ObjectiveConfig(conditioning="joint", align_view="masked", kl_direction="symmetric"),
    "csd_bce": ObjectiveConfig(alignment="csd_bce", target="online", token_anchor=0.1, pixel_anchor=0.1),
    "waiting": ObjectiveConfig(masked_start=0.5),
}


def gradients(config: ObjectiveConfig, size: int | None, count: int = 10) -> tuple[torch.Tensor, dict]:
    """Loss and gradients of one batch; ``size`` rows at a time, or at once."""
    encoder, predictor = tiny_encoder(), tiny_predictor()
    objective = PretrainingObjective(config, encoder)
    views = example_views(encoder, count, statements=2)
    parts = (encoder, predictor) if size is None else (InChunks(encoder, size), InChunks(predictor, size))
    loss = objective(*parts, views, 0.0).loss
    loss.backward()
    named = [*encoder.named_parameters(), *predictor.named_parameters(), *objective.named_parameters()]
    return loss.detach(), {name: p.grad for name, p in named if p.grad is not None}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_chunks_equal_the_whole_batch(name: str) -> None:
    loss, wanted = gradients(CONFIGS[name], None)
    for size in (3, 5):  # with and without a smaller last chunk
        again, given = gradients(CONFIGS[name], size)
        torch.testing.assert_close(again, loss, atol=1e-6, rtol=1e-6)
        assert given.keys() == wanted.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(given[key], value, atol=1e-5, rtol=1e-4, msg=lambda m, key=key: f"{key}: {m}")


def test_a_small_batch_loses_what_chunks_keep() -> None:
    """The average of small batches is another gradient: that is why accumulating is not enough."""
    encoder, predictor = tiny_encoder(), tiny_predictor()
    objective = PretrainingObjective(ObjectiveConfig(masked_weight=0.0, vib_weight=0.0), encoder)
    views = example_views(encoder, 8)
    whole = objective(encoder, predictor, views).loss

    def half(rows: slice):
        cut = {name: getattr(views, name)[rows] for name in ("images", "image_mask", "text_mask", "text_keys")}
        facts = {name: getattr(views, name)[rows] for name in ("report_facts", "text_facts")}
        return objective(encoder, predictor, views._replace(tokens=views.tokens.rows(rows), **cut, **facts)).loss

    apart = (half(slice(0, 4)) + half(slice(4, 8))) / 2
    assert whole - apart > 0.1


def test_dropout_is_the_same_when_a_chunk_is_computed_again() -> None:
    torch.manual_seed(0)
    text = tiny_bert(hidden_dropout_prob=0.5)
    encoder = InChunks(ProbabilisticEncoder(tiny_vit(), text, embed_dim=24, head="mlp").train(), 2)
    tokens = encoder.tokenize(["Edema is present.", "No effusion.", "The heart is large."])
    torch.manual_seed(3)
    encoder.encode_text(tokens).mean.square().sum().backward()
    given = text.model.embeddings.word_embeddings.weight.grad.clone()
    text.zero_grad()
    torch.manual_seed(3)
    parts = [encoder._module.encode_text(tokens.rows(rows)).mean for rows in (slice(0, 2), slice(2, 3))]
    torch.cat(parts).square().sum().backward()
    torch.testing.assert_close(given, text.model.embeddings.word_embeddings.weight.grad)


@pytest.mark.parametrize("size", [3, None])
def test_the_teacher_encodes_in_chunks_too(size: int | None) -> None:
    encoder, predictor = tiny_encoder(), tiny_predictor()
    objective = PretrainingObjective(ObjectiveConfig(), encoder)
    views, rows = example_views(encoder, 10), []
    for tower in (objective.teacher.encoder.image, objective.teacher.encoder.text):
        tower.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    parts = (encoder, predictor) if size is None else (InChunks(encoder, size), InChunks(predictor, size))
    wanted = [10] if size is None else [3, 3, 3, 1]
    objective(*parts, views)
    assert rows == 2 * wanted
    rows.clear()
    full = objective.encode_full(parts[0], views.images, views.tokens)
    assert rows == 2 * wanted
    torch.testing.assert_close(full.image.mean, encoder.encode_image(views.images).mean, atol=1e-5, rtol=1e-5)


def kept(size: int | None) -> int:
    """Bytes that the graph of a step keeps for the backward pass."""
    encoder, predictor = tiny_encoder(), tiny_predictor()
    objective = PretrainingObjective(ObjectiveConfig(), encoder)
    views = example_views(encoder, 16)
    weights = {p.untyped_storage().data_ptr() for p in [*encoder.parameters(), *predictor.parameters()]}
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    parts = (encoder, predictor) if size is None else (InChunks(encoder, size), InChunks(predictor, size))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = objective(*parts, views).loss
    assert torch.isfinite(loss)
    return sum(storages.values())


def test_chunks_keep_a_fraction_of_the_memory() -> None:
    whole, chunked = kept(None), kept(4)
    assert chunked < 0.35 * whole, (whole, chunked)
