"""What is left out of a step, kept for later or compiled changes nothing but time and memory."""

from __future__ import annotations

import pytest
import torch
from conftest import example_views, tiny_bert, tiny_encoder, tiny_predictor, tiny_vit
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.memory import allocated
from dmlm.errors import ConfigError
from dmlm.models import CrossModalPredictor, GaussianHead, HFTextEncoder, ProbabilisticEncoder, TimmImageEncoder
from dmlm.models.checkpointing import Checkpointing, _is_kept
from dmlm.objectives import ObjectiveConfig, PretrainingObjective


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["attn", "mlp"])
def test_head_at_some_positions_equals_the_head_at_all(kind: str) -> None:
    torch.manual_seed(0)
    head = GaussianHead(20, 24, kind, num_heads=4)
    torch.nn.init.normal_(head.logvar_out.weight)
    features = torch.randn(3, 7, 20, requires_grad=True)
    valid = torch.arange(7)[None] < torch.tensor([7, 5, 3])[:, None]
    index = torch.tensor([[0, 6], [4, 1], [2, 2]])
    results = []
    for some in (False, True):
        head.zero_grad()
        features.grad = None
        out = head(features, valid, index) if some else head(features, valid).gather(index)
        (out.mean.sin().sum() + out.logvar.sum()).backward()
        results.append((out, {**gradients(head), "features": features.grad.clone()}))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-5, rtol=1e-5)


def test_head_at_no_position_is_empty() -> None:
    for kind in ("attn", "mlp"):
        out = GaussianHead(8, 8, kind, num_heads=2)(torch.randn(2, 3, 8), None, torch.zeros(2, 0, dtype=torch.int64))
        assert out.mean.shape == out.logvar.shape == (2, 0, 8)


def test_global_elements_equal_element_zero() -> None:
    encoder = tiny_encoder(head="attn")
    views = example_views(encoder)
    torch.testing.assert_close(encoder.image_global(views.images), encoder.encode_image(views.images).at(0))
    torch.testing.assert_close(encoder.text_global(views.tokens), encoder.encode_text(views.tokens).at(0))
    texts = ["No edema.", "Left pleural effusion."]
    torch.testing.assert_close(encoder.text_global(texts), encoder.encode_text(texts).at(0))


@pytest.mark.parametrize(("options", "saved"), [({}, 0.01), ({"masked_weight": 0.0}, 0.02)])
def test_heads_compute_only_what_is_read(options: dict, saved: float) -> None:
    """A step with heads at all elements gives the same loss and counts more operations."""
    encoder, predictor = tiny_encoder(head="attn"), tiny_predictor()
    objective = PretrainingObjective(ObjectiveConfig(**options), encoder)
    views = example_views(encoder)
    losses, counted = [], []
    for everywhere in (False, True):
        if everywhere:
            for model in filter(None, (encoder, objective.teacher.encoder)):
                for head in (model.image_head, model.text_head):
                    forward = head.forward

                    def at_all(features, valid=None, index=None, forward=forward):
                        out = forward(features, valid)
                        return out if index is None else out.gather(index)

                    head.forward = at_all
        with FlopCounterMode(display=False) as counter:
            losses.append(objective(encoder, predictor, views).loss)
        counted.append(counter.get_total_flops())
    torch.testing.assert_close(losses[0], losses[1])
    assert counted[0] < (1 - saved) * counted[1]


def checkpointed(kind: Checkpointing = True, head: str = "mlp") -> tuple[ProbabilisticEncoder, CrossModalPredictor]:
    plain = tiny_encoder(head=head)
    size = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "drop_path_rate": 0.3}
    image = TimmImageEncoder(
        "vit_tiny_patch16_224", pretrained=False, image_size=32, model_kwargs=size, gradient_checkpointing=kind
    )
    hf_config = {
        **plain.text.config["init_args"]["hf_config"],
        "hidden_dropout_prob": 0.2,
        "attention_probs_dropout_prob": 0.2,
    }
    text = HFTextEncoder(
        "bert", pretrained=False, hf_config=hf_config, tokenizer="library", max_length=128, gradient_checkpointing=kind
    )
    encoder = ProbabilisticEncoder(image, text, embed_dim=24, head=head, num_heads=4)
    predictor = CrossModalPredictor(24, width=24, depth=2, num_heads=2, gradient_checkpointing=kind)
    return encoder, predictor


def switch(encoder: ProbabilisticEncoder, predictor: CrossModalPredictor, on: Checkpointing) -> None:
    encoder.image.gradient_checkpointing = on
    for module in encoder.text.model.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = bool(on)
    for direction in (predictor.image, predictor.text):
        direction.gradient_checkpointing = on


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("kind", "share"), [(True, 0.6), ("selective", 0.85)])
def test_checkpointing_keeps_less_and_gives_the_same_gradients(kind: Checkpointing, share: float, half: bool) -> None:
    """Random depth and dropout are drawn again as they were; layers are used twice, and cast to half precision once."""
    torch.manual_seed(0)
    encoder, predictor = checkpointed(kind)
    encoder.train()
    objective = PretrainingObjective(ObjectiveConfig(), encoder)
    views = example_views(encoder)
    both = torch.nn.ModuleList([encoder, predictor])
    results, kept = [], []
    for on in (kind, False):
        switch(encoder, predictor, on)
        both.zero_grad()
        torch.manual_seed(3)
        losses: list[torch.Tensor] = []

        def forward(losses: list[torch.Tensor] = losses) -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                losses.append(objective(encoder, predictor, views).loss)

        kept.append(allocated(forward))
        losses[0].backward()
        results.append((losses[0].detach(), gradients(both)))
    torch.testing.assert_close(results[0], results[1], atol=1e-6, rtol=1e-5)
    assert len(results[0][1]) == len(results[1][1]) > 40
    assert kept[0] < share * kept[1]


@pytest.mark.parametrize("kind", [True, "selective"])
def test_checkpointing_is_an_option_of_each_tower_and_is_recorded(kind: Checkpointing) -> None:
    encoder, predictor = checkpointed(kind)
    for part in (encoder.image, encoder.text, predictor):
        assert part.config["init_args"]["gradient_checkpointing"] == kind
    for part in (tiny_vit(), tiny_bert(), tiny_predictor()):
        assert part.config["init_args"]["gradient_checkpointing"] is False


def test_selective_checkpointing_computes_no_matrix_product_again() -> None:
    counted = []
    for kind in (False, "selective", True):
        encoder, predictor = checkpointed(kind)
        objective = PretrainingObjective(ObjectiveConfig(), encoder.train())
        views = example_views(encoder)
        with FlopCounterMode(display=False) as counter:
            objective(encoder, predictor, views).loss.backward()
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] < counted[2]


def test_attention_with_dropout_is_computed_again() -> None:
    """Where a kernel draws the dropout itself, as on GPUs, leaving it out would shift all random numbers after it."""
    plain = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
    fused = torch.ops.aten._scaled_dot_product_efficient_attention.default
    some = (torch.zeros(1),) * 3
    assert _is_kept(plain, some, {})
    assert _is_kept(fused, (*some, None, True), {})
    assert _is_kept(fused, (*some, None, True, 0.0), {})
    assert not _is_kept(plain, (*some, 0.1), {})
    assert not _is_kept(fused, (*some, None, True, 0.1), {})
    assert not _is_kept(fused, (*some, None, True), {"dropout_p": 0.1})
    assert not _is_kept(torch.ops.aten.gelu.default, some[:1], {})


def test_an_unknown_kind_of_checkpointing_is_refused() -> None:
    with pytest.raises(ConfigError, match="true, false or selective, got 'some'"):
        CrossModalPredictor(24, width=24, num_heads=2, gradient_checkpointing="some")  # type: ignore[arg-type]


def test_selective_checkpointing_is_not_compiled() -> None:
    encoder, _ = checkpointed("selective")
    for tower in (encoder.image, encoder.text):
        with pytest.raises(ConfigError, match="selective does not go with"):
            tower.compile()


def test_checkpointing_refuses_batch_normalisation() -> None:
    with pytest.raises(ConfigError, match="plain ViTs"):
        TimmImageEncoder("test_resnet", pretrained=False, image_size=32, gradient_checkpointing=True)


@pytest.mark.slow
def test_compiled_step_equals_the_plain_one() -> None:
    """What the compiler captures is the same function; writing C++ for it, which takes minutes, is torch's part."""
    encoder, predictor = tiny_encoder(), tiny_predictor()
    objective = PretrainingObjective(ObjectiveConfig(), encoder)
    names = [name for name, _ in objective.named_parameters()]
    plain = [float(objective(encoder, predictor, example_views(encoder, seed=seed)).loss.detach()) for seed in (0, 1)]
    objective.masked.compile(dynamic=True, backend="aot_eager")
    encoder.image.compile(backend="eager")
    encoder.text.compile(dynamic=True, backend="eager")
    for seed in (0, 1):  # texts of another length, too
        loss = objective(encoder, predictor, example_views(encoder, seed=seed)).loss
        assert float(loss.detach()) == pytest.approx(plain[seed], rel=1e-5)
        loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.image.model.blocks.parameters())
    assert [name for name, _ in objective.named_parameters()] == names  # checkpoints keep their keys
