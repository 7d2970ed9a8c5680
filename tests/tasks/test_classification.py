"""Classification end to end through Lightning, and the labels and losses beneath it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_encoder
from finetuning import OPTIM, evaluator, metrics, phantoms, predictions, trainer
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from torch.nn import functional as F

from dmlm.errors import CheckpointError, ConfigError, DatasetFormatError, MismatchError
from dmlm.io.checkpoints import read_checkpoint
from dmlm.models import from_pretrained, save_pretrained
from dmlm.tasks import ClassificationModule, OptimConfig, TaskModule, load_finetuned
from dmlm.tasks.classification_loss import (
    balanced_weights,
    check_labels,
    label_loss,
    resolve_uncertain,
    resolve_unknown,
)
from dmlm.tasks.gathering import gather_columns
from dmlm.tasks.layer_rates import layer_numbers
from dmlm.tasks.optim import parameter_groups

pytestmark = pytest.mark.filterwarnings("ignore:.*(no AUC, F1 or ACC|no positive case)")
NAMES = ("Atelectasis", "Cardiomegaly", "Effusion")


def module(**arguments) -> ClassificationModule:
    defaults = {"num_classes": 9, "bootstrap": 20, "mc_samples": 2, "optim": OPTIM}
    return ClassificationModule(tiny_encoder(), **{**defaults, **arguments})


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.getbasetemp() / "finetune-phantoms"


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache) -> Path:
    """Folder of a multi-label run that was tested with its best weights."""
    root = tmp_path_factory.mktemp("classify")
    torch.manual_seed(0)
    running = trainer(root, "val_auroc", logger=TensorBoardLogger(root, name="", version=""))
    running.fit(module(class_weights="balanced"), phantoms(cache))
    running.test(
        ckpt_path=str(root / "kept" / "best.ckpt"), datamodule=phantoms(cache), weights_only=True, verbose=False
    )
    return root


def test_a_test_leaves_numbers_predictions_and_pictures(run, cache) -> None:
    found, rows = metrics(run), predictions(run)
    data = phantoms(cache)
    data.setup("test")
    assert len(rows) == len(data.test_dataset) * 9
    for name in ("roc", "pr", "reliability", "risk_coverage", "predictions"):
        assert (run / f"{name}.png").stat().st_size > 2000, name
    labels, scores = (np.array([float(row[key]) for row in rows]).reshape(-1, 9) for key in ("label", "score"))
    np.testing.assert_array_equal(labels, data.test_dataset.labels)
    both = (labels.min(0) == 0) & (labels.max(0) == 1)
    expected = np.mean([roc_auc_score(labels[:, c], scores[:, c]) for c in np.flatnonzero(both)])
    assert found["classify/auc_macro"] == pytest.approx(expected, abs=1e-5)
    assert {"classify/auc_macro_low", "classify/ece_macro", "classify/sens_at_spec90_macro"} <= found.keys()
    assert {"classify/uncertainty/mc_std/aurc", "classify/uncertainty/variance/error_auroc"} <= found.keys()
    for row in rows:
        assert int(row["pred"]) == (float(row["score"]) >= float(row["threshold"]))
        assert row["rule"] == "best_f1_val"
        assert float(row["mc_std"]) > 0
        assert float(row["mutual_information"]) >= 0
        assert float(row["prob"]) == pytest.approx(1 / (1 + np.exp(-float(row["score"]))), abs=1e-4)
    events = b"".join(path.read_bytes() for path in run.glob("events*"))
    assert all(tag in events for tag in (b"roc", b"risk_coverage", b"predictions", b"val_auroc"))


def test_metrics_do_not_depend_on_the_batch_size(run, cache, tmp_path) -> None:
    loaded = TaskModule.load_from_checkpoint(run / "kept" / "best.ckpt")
    evaluator(tmp_path).test(loaded, phantoms(cache, batch_size=5), verbose=False)
    before, after = metrics(run), metrics(tmp_path)
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert after[key] == pytest.approx(value, abs=1e-4, nan_ok=True), key


def test_rows_that_came_twice_count_once() -> None:
    parts = [
        {"index": np.array([2, 0]), "score": np.array([[2.0], [0.0]]), "study_id": ["c", "a"]},
        {"index": np.array([1, 0]), "score": np.array([[1.0], [0.0]]), "study_id": ["b", "a"]},
    ]
    joined = gather_columns(parts)
    assert joined["index"].tolist() == [0, 1, 2]
    assert joined["score"][:, 0].tolist() == [0.0, 1.0, 2.0]
    assert joined["study_id"] == ["a", "b", "c"]
    assert gather_columns([]) == {}


def test_a_checkpoint_predicts_without_its_data(run) -> None:
    loaded = load_finetuned(str(run / "kept" / "best.ckpt"), ClassificationModule)
    assert loaded.class_names[0] == "Atelectasis"
    assert loaded.threshold.abs().sum() > 0
    image = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    found = loaded.predict_images(image)
    assert found["prob"].shape == (2, 9)
    alone = loaded.predict_images(image[1:], seeds=[1])
    np.testing.assert_allclose(found["prob"][1:], alone["prob"], rtol=1e-4)


def test_prediction_writes_rows_with_the_thresholds_of_validation(run, cache, tmp_path) -> None:
    loaded = load_finetuned(str(run / "kept" / "best.ckpt"))
    evaluator(tmp_path).predict(loaded, phantoms(cache), return_predictions=False)
    limits = loaded.threshold.numpy()
    for number, row in enumerate(predictions(tmp_path)):
        assert float(row["threshold"]) == pytest.approx(limits[number % 9], abs=1e-4)


def test_start_from_a_run_from_a_folder_and_the_learning_that_follows(run, cache, tmp_path) -> None:
    path = str(run / "kept" / "best.ckpt")
    encoder = from_pretrained(path)
    save_pretrained(encoder, tmp_path / "encoder")
    again = from_pretrained(str(tmp_path / "encoder"))
    torch.testing.assert_close(dict(again.image.state_dict()), dict(encoder.image.state_dict()))
    probe = ClassificationModule(again, 1, "binary", freeze_encoder=True, bootstrap=0, optim=OPTIM)
    start = probe.head.linear.weight.detach().clone()
    before = {name: value.clone() for name, value in again.state_dict().items() if "extra" not in name}
    trainer(tmp_path, "val_auroc", 1).fit(probe, phantoms(cache, target="Cardiomegaly"))
    for name, value in before.items():
        torch.testing.assert_close(again.state_dict()[name], value)
    assert not again.training
    assert not torch.equal(probe.head.linear.weight, start)
    with pytest.raises(CheckpointError, match="which is no Other"):
        load_finetuned(str(tmp_path / "kept" / "last.ckpt"), type("Other", (ClassificationModule,), {}))


def test_a_checkpoint_of_other_classes_is_refused(run, cache, tmp_path) -> None:
    loaded = load_finetuned(str(run / "kept" / "best.ckpt"))
    loaded.class_names = ("a", *loaded.class_names[1:])
    with pytest.raises(MismatchError, match="was trained for a, Cardiomegaly"):
        evaluator(tmp_path).test(loaded, phantoms(cache))
    with pytest.raises(MismatchError, match=r"set --model\.task binary"):
        evaluator(tmp_path).test(module(), phantoms(cache, target="Edema"))
    with pytest.raises(MismatchError, match=r"num_classes=9.*set --model\.num_classes 9"):
        evaluator(tmp_path).test(module(num_classes=3), phantoms(cache))


def test_an_encoder_of_another_width_is_named(run) -> None:
    path = run / "kept" / "best.ckpt"
    with pytest.raises(CheckpointError, match=r"head\.norm\.weight|encoder\.") as error:
        ClassificationModule.load_from_checkpoint(path, encoder=tiny_encoder(16))
    assert "\n" not in str(error.value)
    assert read_checkpoint(path)["dmlm"]["class_names"][0] == "Atelectasis"


def test_multiclass_and_features(cache, tmp_path) -> None:
    torch.manual_seed(0)
    running = trainer(tmp_path, "val_auroc")
    made = module(
        num_classes=4, task="multiclass", features="mean_std", class_weights=[1.0, 2, 2, 2], label_smoothing=0.1
    )
    running.fit(made, phantoms(cache, target="edema"))
    running.test(made, phantoms(cache, target="edema"), verbose=False)
    rows = predictions(tmp_path)
    labels, prob, pred = (np.array([float(r[k]) for r in rows]).reshape(-1, 4) for k in ("label", "prob", "pred"))
    np.testing.assert_array_equal(pred.sum(1), 1)
    np.testing.assert_allclose(prob.sum(1), 1, atol=1e-4)
    truth, said = labels.argmax(1), prob.argmax(1)
    found = metrics(tmp_path)
    assert found["classify/accuracy"] == pytest.approx(accuracy_score(truth, said))
    present = sorted(set(truth))
    expected = f1_score(truth, said, labels=present, average="macro", zero_division=0)
    assert found["classify/f1_argmax_macro"] == pytest.approx(expected)
    assert (tmp_path / "confusion.png").stat().st_size > 2000


def test_a_class_that_the_test_set_lacks_is_named_and_left_out(cache, tmp_path) -> None:
    class OneSided(type(phantoms(cache))):
        def make_dataset(self, split, transform):
            dataset = super().make_dataset(split, transform)
            if split == "test":
                for record in dataset.records:
                    record["labels"][2] = 0
                dataset._labels = dataset.labels
            return dataset

    data = OneSided(24, 8, 12, 32, 8, cache=str(cache), num_workers=0)
    with pytest.warns(UserWarning, match="test split: no (positive case of Consolidation|AUC, F1 or ACC for .*Consol)"):
        evaluator(tmp_path).test(module(bootstrap=5), data, verbose=False)
    found = metrics(tmp_path)
    assert np.isnan(found["classify/auc/Consolidation"])
    assert np.isfinite(found["classify/auc_macro"])
    assert found["classify/classes_in_macro"] <= 8


def test_uncertain_and_unknown_labels() -> None:
    labels = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 0.0, torch.nan]])
    torch.testing.assert_close(resolve_uncertain(labels, NAMES, "zeros")[0], torch.zeros(3))
    torch.testing.assert_close(resolve_uncertain(labels, NAMES, "ones")[0], torch.ones(3))
    assert resolve_uncertain(labels, NAMES, "ignore")[0].isnan().all()
    mixed = resolve_uncertain(labels, NAMES, "chexpert_mixed")
    assert mixed[0].tolist() == [1.0, 0.0, 1.0]  # Effusion is Pleural Effusion by another name
    assert mixed[1, :2].tolist() == [1.0, 0.0]
    assert mixed[1, 2].isnan()
    assert resolve_unknown(labels, "zeros")[1, 2] == 0
    assert resolve_unknown(labels, "zeros")[0, 0] == -1


def test_losses_are_those_of_torch_where_everything_is_known() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 3), (torch.rand(6, 3) < 0.4).float()
    weights = torch.tensor([2.0, 1.0, 3.0])
    expected = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights)
    torch.testing.assert_close(label_loss(logits, labels, "multilabel", weights).mean(), expected)
    labels[0], labels[1, 1] = torch.nan, torch.nan
    known = ~labels.isnan()
    part = F.binary_cross_entropy_with_logits(logits[known], labels[known])
    torch.testing.assert_close(label_loss(logits, labels, "multilabel").mean(), part)
    classes = torch.tensor([0, 2, 1, 1, 0, 2])
    one_hot = F.one_hot(classes, 3).float()
    torch.testing.assert_close(
        label_loss(logits, one_hot, "multiclass", weights).mean(), F.cross_entropy(logits, classes, weights)
    )
    smooth = F.cross_entropy(logits, classes, label_smoothing=0.2)
    torch.testing.assert_close(label_loss(logits, one_hot, "multiclass", smoothing=0.2).mean(), smooth)
    steps = torch.randn(6, 2)
    target = torch.stack([classes > 0, classes > 1], 1).float()
    torch.testing.assert_close(
        label_loss(steps, one_hot, "ordinal").mean(), F.binary_cross_entropy_with_logits(steps, target)
    )
    nothing = label_loss(logits, torch.full((6, 3), torch.nan), "multilabel").mean()
    assert nothing == 0


def test_the_mean_loss_does_not_depend_on_the_grouping() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 3), (torch.rand(8, 3) < 0.4).float()
    labels[torch.rand(8, 3) < 0.4] = torch.nan
    whole = label_loss(logits, labels, "multilabel")
    parts = [label_loss(logits[rows], labels[rows], "multilabel") for rows in (slice(0, 5), slice(5, 8))]
    total, weight = (sum(getattr(part, name).sum() for part in parts) for name in ("total", "weight"))
    torch.testing.assert_close(total / weight, whole.mean())


def test_balanced_weights() -> None:
    labels = np.array([[1, 0, 0], [0, 0, 1], [0, 0, np.nan], [0, 0, 0]], dtype=np.float32)
    with pytest.warns(UserWarning, match="no positive training case of Cardiomegaly"):
        assert balanced_weights(labels, NAMES, "multilabel").tolist() == [3.0, 1.0, 2.0]
    one_hot = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 2, 2]]
    torch.testing.assert_close(balanced_weights(one_hot, NAMES, "multiclass"), torch.tensor([2 / 3, 2.0, 1.0]))


def test_labels_out_of_range_are_refused() -> None:
    with pytest.raises(DatasetFormatError, match="train split: the label 'Cardiomegaly' of sample 1 is 2"):
        check_labels(np.array([[1, 0, 1], [0, 2, 0]], np.float32), NAMES, "multilabel", "train split")
    with pytest.raises(DatasetFormatError, match="sample 1 has 2 of the classes"):
        check_labels(np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]], np.float32), NAMES, "multiclass", "x")
    with pytest.raises(DatasetFormatError, match="sample 0 has 0 of the classes"):
        check_labels(np.array([[0, 0, 0]], np.float32), NAMES, "multiclass", "x")
    with pytest.warns(UserWarning, match="val split: no positive case of Effusion"):
        check_labels(np.array([[1, 1, 0], [0, 0, -1]], np.float32), NAMES, "multilabel", "val split")
    check_labels(
        np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [np.nan] * 3, [0, 0, -1]], np.float32), NAMES, "multiclass", "x"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "binary"}, "--model.num_classes 1"),
        ({"features": "pooled"}, "mc_samples"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\)"),
        ({"class_weights": [1.0]}, "9 positive numbers"),
        ({"class_weights": "equal"}, "'balanced' or 9"),
        ({"uncertain": "maybe"}, "uncertain must be one of"),
        ({"unknown": "ones"}, "unknown must be one of"),
    ],
)
def test_options_that_cannot_work(arguments, message) -> None:
    with pytest.raises(ConfigError, match=message):
        module(**arguments)


def test_rates_fall_layer_by_layer() -> None:
    made = module(optim=OptimConfig(lr=1e-3, encoder_lr=1e-4, layer_decay=0.5))
    groups = parameter_groups(made, ("encoder.image.",), made.optim_config)
    rates = {
        name: group["lr"]
        for group in groups
        for name, value in made.named_parameters()
        for p in group["params"]
        if p is value
    }
    assert rates["encoder.image.model.norm.weight"] == pytest.approx(1e-4)
    assert rates["encoder.image.model.blocks.1.attn.qkv.weight"] == pytest.approx(1e-4)
    assert rates["encoder.image.model.blocks.0.attn.qkv.weight"] == pytest.approx(5e-5)
    assert rates["encoder.image.model.patch_embed.proj.weight"] == pytest.approx(2.5e-5)
    assert rates["encoder.image_head.mean_out.weight"] == rates["head.linear.weight"] == 1e-3
    assert set(rates) == {name for name, value in made.named_parameters() if value.requires_grad}
    with pytest.raises(ConfigError, match="layer_decay"):
        OptimConfig(layer_decay=0)
    with pytest.raises(ConfigError, match="does not say its layers"):
        layer_numbers(torch.nn.Linear(2, 2))
