"""What layers compute again in the backward pass instead of keeping it: the same gradients for less memory."""

from __future__ import annotations

import pickle

import pytest
import torch
from conftest import example_views, tiny_bert, tiny_encoder, tiny_predictor, tiny_vit
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.memory import allocated
from dmlm.errors import ConfigError
from dmlm.models import CrossModalPredictor, HFTextEncoder, ProbabilisticEncoder, TimmImageEncoder, checkpointing
from dmlm.models.checkpointing import _WIDE, Checkpointing
from dmlm.objectives import ObjectiveConfig, PretrainingObjective
from dmlm.objectives.chunks import InChunks
from dmlm.planning.shapes import WIDE


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def checkpointed(
    kind: Checkpointing = True, head: str = "mlp", width: int = 24
) -> tuple[ProbabilisticEncoder, CrossModalPredictor]:
    plain = tiny_encoder(head=head)
    size = {"patch_size": 8, "embed_dim": width, "depth": 2, "num_heads": 2, "drop_path_rate": 0.3}
    image = TimmImageEncoder(
        "vit_tiny_patch16_224", pretrained=False, image_size=32, model_kwargs=size, gradient_checkpointing=kind
    )
    hf_config = {
        **plain.text.config["init_args"]["hf_config"],
        "hidden_dropout_prob": 0.2,
        "attention_probs_dropout_prob": 0.2,
        "hidden_size": width,
        "intermediate_size": 4 * width,
    }
    text = HFTextEncoder(
        "bert", pretrained=False, hf_config=hf_config, tokenizer="library", max_length=128, gradient_checkpointing=kind
    )
    encoder = ProbabilisticEncoder(image, text, embed_dim=width, head=head, num_heads=4)
    predictor = CrossModalPredictor(width, width=width, depth=2, num_heads=2, gradient_checkpointing=kind)
    return encoder, predictor


def switch(encoder: ProbabilisticEncoder, predictor: CrossModalPredictor, on: Checkpointing) -> None:
    for part in (encoder.image, encoder.image_head, encoder.text_head):
        part.gradient_checkpointing = on
    for module in encoder.text.model.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = bool(on)
    for direction in (predictor.image, predictor.text):
        direction.gradient_checkpointing = on


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("head", ["mlp", "attn"])
@pytest.mark.parametrize(("kind", "share"), [(True, 0.55), ("selective", 0.85)])
def test_checkpointing_keeps_less_and_gives_the_same_gradients(
    kind: Checkpointing, share: float, head: str, half: bool
) -> None:
    """Random depth and dropout are drawn again as they were; layers are used twice, and cast to half precision once."""
    torch.manual_seed(0)
    encoder, predictor = checkpointed(kind, head)
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
        assert part.config["init_args"]["gradient_checkpointing"] == "auto"


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


def test_an_unknown_kind_of_checkpointing_is_refused() -> None:
    with pytest.raises(ConfigError, match="auto, true, false or selective, got 'some'"):
        CrossModalPredictor(24, width=24, num_heads=2, gradient_checkpointing="some")  # type: ignore[arg-type]


def test_selective_checkpointing_is_not_compiled() -> None:
    encoder, _ = checkpointed("selective")
    for tower in (encoder.image, encoder.text):
        with pytest.raises(ConfigError, match="selective does not go with"):
            tower.compile()


def test_checkpointing_refuses_batch_normalisation() -> None:
    with pytest.raises(ConfigError, match="plain ViTs"):
        TimmImageEncoder("test_resnet", pretrained=False, image_size=32, gradient_checkpointing=True)
    assert TimmImageEncoder("test_resnet", pretrained=False, image_size=32).gradient_checkpointing == "auto"


def kept(encoder: ProbabilisticEncoder, predictor: CrossModalPredictor, chunk: int | None = None) -> int:
    """Bytes that a forward pass of the objective holds at most."""
    objective = PretrainingObjective(ObjectiveConfig(target="online"), encoder.train())
    parts = (encoder, predictor) if chunk is None else (InChunks(encoder, chunk), InChunks(predictor, chunk))
    views = example_views(encoder, 8)
    losses = []
    return allocated(lambda: losses.append(objective(*parts, views).loss))


@pytest.fixture
def worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small inputs count as large ones."""
    monkeypatch.setattr(checkpointing, "_MANY", 0)


@pytest.mark.usefixtures("worth_it")
def test_wide_layers_keep_their_products_by_default_and_narrow_ones_everything() -> None:
    assert WIDE == _WIDE == 384
    for width, meant in ((384, "selective"), (48, False)):
        by_default, as_meant, other = (
            kept(*checkpointed(kind, width=width)) for kind in ("auto", meant, "selective" if meant is False else False)
        )
        assert by_default == pytest.approx(as_meant, rel=0.02)
        assert by_default != pytest.approx(other, rel=0.1)


def test_few_elements_are_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing, "_MANY", 10**9)
    plain = kept(*checkpointed(False, width=384))
    assert kept(*checkpointed("auto", width=384)) == pytest.approx(plain, rel=0.02)
    assert kept(*checkpointed("selective", width=384)) < 0.9 * plain


@pytest.mark.usefixtures("worth_it")
@pytest.mark.parametrize("kind", ["auto", True])
def test_chunks_of_checkpointed_layers_hold_as_little(kind: Checkpointing) -> None:
    """Products that layers put aside would outlive the chunk, which is computed again anyway."""
    plain = kept(*checkpointed(False, width=384), chunk=2)
    assert kept(*checkpointed(kind, width=384), chunk=2) < 1.1 * plain
    assert plain < 0.7 * kept(*checkpointed(False, width=384))


@pytest.mark.usefixtures("worth_it")
def test_frozen_weights_cost_what_they_cost_without() -> None:
    """Autograd keeps nothing of frozen linear layers, and runs nothing backwards that lies before what trains."""
    counted = {}
    for kind in (False, "auto"):
        encoder, _ = checkpointed(kind, width=384)
        encoder.text.model.requires_grad_(requires_grad=False)
        encoder.text.model.encoder.layer[-1].output.dense.weight.requires_grad_(requires_grad=True)
        tokens = encoder.tokenize(["edema", "no edema"])
        features: list[torch.Tensor] = []

        encoder.train()
        held = allocated(lambda text=encoder.text, tokens=tokens, to=features: to.append(text(tokens).tokens))
        with FlopCounterMode(display=False) as counter:
            features[0].sum().backward()
        counted[kind] = (held, counter.get_total_flops())
        encoder.text.requires_grad_(requires_grad=False)
        assert not encoder.text(tokens).tokens.requires_grad
    assert counted["auto"] == (pytest.approx(counted[False][0], rel=0.05), counted[False][1])


@pytest.mark.usefixtures("worth_it")
def test_layers_are_called_once_where_nothing_trains() -> None:
    """Maps of what a decision rests on (Grad-CAM) hook the parts of a layer of a model in evaluation."""
    encoder, _ = checkpointed("auto", width=384)
    images = torch.randint(0, 255, (2, 1, 32, 32), dtype=torch.uint8)
    calls: list[torch.Tensor] = []
    encoder.image.model.blocks[-1].norm1.register_forward_hook(lambda module, inputs, output: calls.append(output))
    for training, times in ((False, 1), (True, 2)):
        calls.clear()
        encoder.train(training).image(images).pooled.sum().backward()
        assert len(calls) == times


@pytest.mark.usefixtures("worth_it")
def test_gradients_of_single_samples() -> None:
    encoder, _ = checkpointed("auto", width=384)
    head, features = encoder.image_head.train(), torch.randn(3, 2, 384)
    weights = dict(head.named_parameters())

    def loss(weights: dict[str, torch.Tensor], sample: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(head, weights, (sample[None],)).mean.square().sum()  # type: ignore[no-any-return]

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, features)
    loss(weights, features[1]).backward()
    torch.testing.assert_close(each["mean_out.weight"][1], head.mean_out.weight.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["auto", "selective", True])
def test_an_encoder_travels_and_its_record_does_not_depend_on_it(kind: Checkpointing) -> None:
    encoder, _ = checkpointed(kind, width=384)
    again = pickle.loads(pickle.dumps(encoder))
    images = torch.randint(0, 255, (2, 1, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(again.eval().encode_image(images).mean, encoder.eval().encode_image(images).mean)
    plain, _ = checkpointed(False, width=384)
    assert encoder.text.config["init_args"]["hf_config"] == plain.text.config["init_args"]["hf_config"]


def test_a_text_model_that_cannot_is_left_alone_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertModel

    config = {**tiny_bert().config["init_args"]["hf_config"], "hidden_size": 384, "num_attention_heads": 2}
    monkeypatch.setattr(BertModel, "supports_gradient_checkpointing", False)
    assert HFTextEncoder("bert", pretrained=False, hf_config=config, tokenizer="library").feature_dim == 384
    with pytest.raises(ConfigError, match="has none in transformers; leave it off"):
        HFTextEncoder("bert", False, config, "library", gradient_checkpointing="selective")


@pytest.mark.usefixtures("worth_it")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiler_gets_layers_as_they_are(backend: str) -> None:
    """Whoever compiles an encoder, or asks for it by the option, sees nothing that the compiler cannot read."""
    encoder, _ = checkpointed("auto", width=384)
    for block in encoder.image.model.blocks:
        block.drop_path1.drop_prob = block.drop_path2.drop_prob = 0.0
    images, tokens = torch.randint(0, 255, (2, 1, 32, 32), dtype=torch.uint8), encoder.tokenize(["edema", "no edema"])
    encoder.train().image(images).pooled.sum().backward()
    expected = gradients(encoder.image)
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    for part in ("tower", "blocks"):
        encoder.zero_grad()
        if part == "blocks":
            for block in encoder.image.model.blocks:
                block.compile(backend=backend)
        tower = torch.compile(encoder.image, backend=backend) if part == "tower" else encoder.image
        tower(images).pooled.sum().backward()
        torch.testing.assert_close(gradients(encoder.image), expected)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
        assert not torch._dynamo.utils.counters["graph_break"]
        torch._dynamo.utils.counters.clear()
    text = torch.compile(encoder.text.model, backend=backend)
    text(input_ids=tokens.input_ids).last_hidden_state.sum().backward()
    assert all(p.grad is not None for p in encoder.text.model.encoder.parameters())
