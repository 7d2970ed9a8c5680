"""``dmlm plan``: estimates against figures computed by hand, what it reads, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dmlm.__main__ import main
from dmlm.errors import ConfigError
from dmlm.planning.estimate import Run, estimate
from dmlm.planning.flops import step_flops
from dmlm.planning.hardware import parse_cluster
from dmlm.planning.memory import activations, batch_activations, pairs_that_fit, process_memory
from dmlm.planning.shapes import Shapes, Tower, read_shapes, shapes_of

ROOT = Path(__file__).parents[2]


def test_one_student_pass_is_the_table_of_the_design() -> None:
    """41.4 to 42.5 TFLOP for 128 pairs in one pass over 256 tokens, 53 with the target pass: 353 ms, 28.9 h at 30 %."""
    shapes = Shapes(full_pass=False, full_conditions=False, image_mask=0.0, text_mask=0.3)
    run = Run(images=377_110, epochs=100, batch=32, tokens=[256])
    result = estimate(shapes, run, parse_cluster("4xV100"))
    assert result.steps == 100 * 2946
    pairs = 128 * result.flops.total
    assert pairs == pytest.approx(
        53e12 - 3 * 128 * (28.2e9 - 6e9), rel=0.06
    )  # its predictor was larger: joint, 768 wide
    assert result.compute == pytest.approx(pairs / 4 / (125e12 * 0.3))
    assert result.hours == pytest.approx(result.steps * result.step / 3600)
    assert result.exchange == 0.0
    assert result.exchange_all == pytest.approx(2 * 3 / 4 * 4 * 224.5e6 / 125e9, rel=0.01)
    assert result.optimizer == pytest.approx((28 * 224.5e6 + 12 * 204e6) / 900e9, rel=0.01)


def test_the_bottleneck_is_what_takes_longest() -> None:
    shapes = Shapes()
    fast = Run(images=10_000, epochs=1, batch=1, tokens=[64], utilisation=1.0)
    assert estimate(shapes, fast, parse_cluster("H100")).bottleneck == "memory bandwidth"
    slow_net = Run(images=10_000, epochs=1, batch=1, tokens=[64], utilisation=1.0, network=1e8)
    assert estimate(shapes, slow_net, parse_cluster("4x8xH100")).bottleneck == "network"
    slow_loader = Run(images=10_000, epochs=1, batch=32, tokens=[64], loader_rate=50, loader_cores=1)
    result = estimate(shapes, slow_loader, parse_cluster("V100"))
    assert (result.bottleneck, result.step) == ("loader", 32 / 50)
    assert estimate(shapes, Run(10_000, 1, 32, [256]), parse_cluster("4xV100")).bottleneck == "matrix products"


def keeping(kind: bool | str, **options: object) -> Shapes:
    tower = Tower(checkpointing=kind)
    return Shapes(image=tower, text=tower, predictor=Tower(384, 4, 1536, kind), **options)  # type: ignore[arg-type]


def test_memory_adds_up_and_checkpointing_saves_it() -> None:
    plain = process_memory(keeping(False), 256, 32, half=True)
    assert plain.gradients == pytest.approx(4 * 224_481_408)
    assert plain.optimizer == 2 * plain.gradients
    assert process_memory(keeping(True), 256, 32, half=True).activations < 0.2 * plain.activations
    assert process_memory(keeping(False), 256, 32, half=False).activations == 2 * plain.activations
    result = estimate(Shapes(), Run(10_000, 1, 32, [420]), parse_cluster("V100"))
    assert not result.fits
    largest = Run(10_000, 1, result.largest_batch, [420])
    assert estimate(Shapes(), largest, parse_cluster("V100")).fits
    assert not estimate(Shapes(), Run(10_000, 1, result.largest_batch + 1, [420]), parse_cluster("V100")).fits


def test_checkpointing_needs_what_was_measured_and_selective_computes_no_product_again() -> None:
    paper, saving = (ROOT / "examples" / "paper" / name for name in ("pretrain_mimic_cxr.yaml", "less_memory.yaml"))
    selective, inputs = read_shapes([paper])[0], read_shapes([paper, saving])[0]
    assert [part.keeps for part in (selective.image, selective.text, selective.predictor)] == ["selective"] * 3
    assert [part.keeps for part in (inputs.image, inputs.text, inputs.predictor)] == [True] * 3
    # measured by benchmarks/memory.py, at 256 tokens: 346, 223, 50 MiB a pair
    mib = [activations(each, 256) / 2**20 for each in (keeping(False), selective, inputs)]
    assert mib == [pytest.approx(346, rel=0.03), pytest.approx(223, rel=0.03), pytest.approx(50, rel=0.15)]
    one_pass = {"full_pass": False, "full_conditions": False}  # 113 and 28
    mib = [activations(keeping(kind, **one_pass), 256) / 2**20 for kind in ("auto", True)]
    assert mib == [pytest.approx(113, rel=0.03), pytest.approx(28, rel=0.15)]
    plain = step_flops(keeping(False), [256])
    assert plain == step_flops(selective, [256])
    assert step_flops(inputs, [256]).recomputed > 0.2 * plain.total


def test_auto_means_selective_for_wide_layers_that_are_not_compiled() -> None:
    assert [Tower(width).keeps for width in (192, 384, 768)] == [False, "selective", "selective"]
    assert Tower(192, checkpointing="selective").keeps == "selective"
    config = {"model": {"init_args": {"encoder": {"init_args": {"image": {}, "text": {}}}, "compile": "all"}}}
    compiled = shapes_of(config)
    assert [part.keeps for part in (compiled.image, compiled.text, compiled.predictor)] == [False, False, "selective"]


def test_chunks_hold_few_activations_for_a_forward_pass_more() -> None:
    whole, chunked = Shapes(), Shapes(chunk=8)
    # measured by benchmarks/memory.py: 5 MiB for every pair beyond a chunk, at 256 tokens
    further = batch_activations(chunked, 256, 33) - batch_activations(chunked, 256, 32)
    assert further / 2**20 == pytest.approx(5.0, abs=0.1)
    # inside of a chunk everything is kept
    assert batch_activations(chunked, 256, 8) == batch_activations(keeping(False), 256, 8)
    assert batch_activations(chunked, 256, 32) == pytest.approx(batch_activations(chunked, 256, 8) + 24 * further)
    room = batch_activations(chunked, 256, 100)
    assert pairs_that_fit(chunked, 256, room) == 100
    assert pairs_that_fit(whole, 256, room) == int(room // batch_activations(whole, 256, 1)) < 100
    plain, again = step_flops(whole, [256]), step_flops(chunked, [256])
    student = plain.total - plain.teacher
    assert again.total - plain.total == pytest.approx(student / 3, rel=0.02)


def test_clusters() -> None:
    assert [(c.nodes, c.per_node, c.gpu.name) for c in map(parse_cluster, ("v100", "4xV100", "2x8xa100-80gb"))] == [
        (1, 1, "V100"),
        (1, 4, "V100"),
        (2, 8, "A100-80GB"),
    ]
    for wrong in ("4xV99", "x", "0xV100", "1x2x3xV100", ""):
        with pytest.raises(ConfigError, match="--gpus takes 4xV100"):
            parse_cluster(wrong)


def test_the_papers_configuration_is_the_default() -> None:
    shapes, run = read_shapes([ROOT / "examples" / "paper" / "pretrain_mimic_cxr.yaml"])
    assert shapes == Shapes()
    assert run == {"epochs": 100, "batch": 32}


def test_later_files_win_key_by_key(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    image = {"class_path": "TimmImageEncoder", "init_args": {"model_name": "vit_small_patch32_224", "image_size": 384}}
    model = {"encoder": {"init_args": {"image": image}}, "objective": {"target": "online"}}
    first.write_text(yaml.safe_dump({"model": {"class_path": "DMLMPretrainModule", "init_args": model}}))
    changes = {"image": {"init_args": {"gradient_checkpointing": True}}, "head": "mlp"}
    masker = {"class_path": "dmlm.masking.MAEMask"}
    second.write_text(
        yaml.safe_dump({"model": {"init_args": {"encoder": {"init_args": changes}, "image_masker": masker}}})
    )
    shapes, _ = read_shapes([first, second])
    assert shapes.image == Tower(384, 12, 1536, True)
    assert (shapes.patches, shapes.head, shapes.image_mask) == (144, "mlp", 0.75)
    assert (shapes.teacher, shapes.full_pass, shapes.full_target) == (False, True, True)
    one_pass = shapes_of({"model": {"objective": {"conditioning": "joint", "align_view": "masked"}}})
    assert (one_pass.full_pass, one_pass.teacher, one_pass.full_conditions) == (False, True, False)


def test_sections_may_be_files_beside_the_one_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    files = {
        "run.yaml": {"trainer": "parts/t.yaml", "model": "parts/m.yaml", "data": "PhantomDataModule"},
        "parts/t.yaml": {"max_steps": 1000, "max_epochs": -1},
        "parts/m.yaml": {"class_path": "DMLMPretrainModule", "init_args": {"encoder": "e.yaml"}},
        "parts/e.yaml": {"class_path": "ProbabilisticEncoder", "init_args": {"head": "mlp"}},
        "lost.yaml": {"trainer": "t.yaml"},
        "round.yaml": {"model": "round.yaml"},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(content))
    shapes, run = read_shapes([tmp_path / "run.yaml"])
    assert shapes.head == "mlp"
    assert run == {"epochs": -1, "max_steps": 1000}
    with pytest.raises(ConfigError, match=r"lost.yaml: trainer: 't.yaml' is neither a file beside it"):
        read_shapes([tmp_path / "lost.yaml"])
    with pytest.raises(ConfigError, match="names itself"):
        read_shapes([tmp_path / "round.yaml"])


def test_steps_are_capped_as_in_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["plan", "--gpus", "V100", "--images", "320", "--config", str(tmp_path / "c.yaml"), "--json"]
    for trainer, steps in (
        ({"max_steps": 15}, 15),
        ({"max_steps": 15, "max_epochs": -1}, 15),
        ({"max_steps": 15, "max_epochs": 1}, 10),
        ({"max_steps": -1, "max_epochs": 2}, 20),
    ):
        (tmp_path / "c.yaml").write_text(yaml.safe_dump({"trainer": trainer}))
        assert main(command) == 0
        assert json.loads(capsys.readouterr().out)["steps"] == steps
    (tmp_path / "c.yaml").write_text("trainer: {max_epochs: -1}")
    assert main(command) == 2
    assert "-1 where trainer.max_steps is set" in capsys.readouterr().err


def test_command_prints_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "--gpus", "4xV100", "--images", "377110", "--tokens", "420"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    for part in ("4 x V100, 16-mixed, 128 pairs a step", "matrix products", "DOES NOT FIT", "Assumed:", "MiB a pair"):
        assert part in text
    assert main([*arguments, "--json", "--batch-size", "16"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["flops_per_step"] == pytest.approx(figures["flops_per_pair"] * 64)
    assert figures["memory_fits"] is True
    assert figures["hours"] == pytest.approx(figures["steps"] * figures["step_seconds"] / 3600)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "4xV100", "--images", "10"], "do not fill one step of 128 pairs"),
        (["--gpus", "4xV100", "--images", "1000", "--precision", "bf16-mixed"], "V100 has no bf16"),
        (["--gpus", "4xV100", "--images", "1000", "--utilisation", "2"], "utilisation must be above 0"),
        (["--gpus", "4xV100", "--images", "1000", "--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["--gpus", "4xV100", "--images", "1000", "--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--gpus", "4xV100", "--images", "1000", "--precision", "17"], "--precision: dmlm plan knows 16-mixed"),
        (
            ["--gpus", "4xV100", "--images", "1000", "--tokens", "nan"],
            "--tokens must be a number of at least 1, got nan",
        ),
        (["--gpus", "4xV100", "--images", "1000", "--loader-rate", "nan"], "loader_rate must be positive, got nan"),
        (["--gpus", "4xV100", "--images", "1000", "--epoch", "3"], "did you mean '--epochs'?"),
        (
            ["--gpus", "V100", "--images", "1000", "--config", str(ROOT / "examples" / "hardware" / "cpu.yaml")],
            "cpu.yaml has none of the sections model, data and trainer",
        ),
        (["--gpus", "4xV100", "--images", "1000", "--config", "nope.yaml"], "nope.yaml cannot be read"),
        (["--gpus", "4xV100", "--images", "1000", "--config", str(ROOT / "cli.yaml")], "not of 'test_resnet'"),
    ],
)
def test_refusals_are_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["plan", *arguments]) == 2
    err = capsys.readouterr().err.strip()
    assert message in err
    assert "\n" not in err


@pytest.mark.parametrize(
    "task", ["ClassificationModule", "dmlm.tasks.SegmentationModule", "dmlm.tasks.ImagePretrainModule"]
)
def test_other_tasks_are_refused(task: str) -> None:
    """Their steps are others: an estimate of pre-training would be taken for theirs."""
    with pytest.raises(ConfigError, match=f"model.class_path is {task}: dmlm plan knows"):
        shapes_of({"model": {"class_path": task}})


@pytest.mark.parametrize("task", ["DMLMPretrainModule", "dmlm.tasks.DMLMPretrainModule", "mine.PretrainModule"])
def test_pretraining_is_planned_also_of_a_subclass(task: str) -> None:
    assert shapes_of({"model": {"class_path": task}}) == shapes_of({})
