"""What uncertainty is worth, as a plan: one pre-training, classifiers from it, and a test of every kind of doubt."""

from __future__ import annotations

from typing import Any

from dmlm.reproduce.paper_tables import pretraining
from dmlm.reproduce.plan import Cell, Plan, Run, Table, seeded
from dmlm.reproduce.scale import PRETRAIN, Scale, logger
from dmlm.reproduce.sources import ZERO_SHOT, Source

_DOUBTS = {
    "max_probability": "1 - probability of the answer",
    "embedding_variance": "variance of the image's Gaussian",
    "gaussian_samples": "samples of the image's Gaussian",
    "mc_dropout": "Monte-Carlo dropout",
}
_MEASURES = {
    "AURC": "aurc",
    "wrong": "error_auroc",
    **{f"corrupted {level}": f"corruption_auroc@{level}" for level in range(1, 6)},
    "unseen": "unseen_auroc",
    "ECE": "ece_macro",
}
_NOTES = (
    "AURC: area under the risk-coverage curve (lower is better). All other columns but ECE: AUROC of the doubt, 50 is "
    "chance; wrong: wrong against right answers; corrupted L: films at level L of 5 against clean ones, mean over "
    "noise, blur, exposure and covered areas; unseen: films with a finding that training never showed against others.",
    "ECE: calibration error of the probabilities that belong to the doubt, such as the mean over samples.",
)


def uncertainty(scale: Scale) -> Plan:
    """Doubts of the zero-shot model and of classifiers that were fine-tuned from it with dropout."""
    source = ZERO_SHOT["NIH"]
    runs = [pretraining(scale)]
    missing = source.missing(scale) or runs[0].missing
    zero_shot = Run(
        "uncertainty-zero-shot",
        _test(scale, source, PRETRAIN),
        (PRETRAIN,),
        verb="test",
        missing=missing,
    )
    trained, tested = seeded("uncertainty-train", scale.seeds), seeded("uncertainty-classifier", scale.seeds)
    for seed, name, test in zip(scale.seeds, trained, tested, strict=True):
        runs += [_classifier(scale, source, name, seed, missing)]
        runs += [Run(test, _test(scale, source, name), (name,), verb="test", missing=missing)]
    tables = (
        _table(scale, "uncertainty-classifier", "Uncertainty of a fine-tuned classifier (%)", tuple(_DOUBTS), tested),
        _table(
            scale,
            "uncertainty-zero-shot",
            "Uncertainty of zero-shot classification (%)",
            tuple(name for name in _DOUBTS if name != "mc_dropout"),
            (zero_shot.name,),
        ),
    )
    return Plan((*runs, zero_shot), tables)


def _classifier(scale: Scale, source: Source, name: str, seed: int, missing: str) -> Run:
    options = {
        "encoder": scale.encoder("D-MLM"),
        "num_classes": 9 if scale.budget == "smoke" else 14,
        "task": "multilabel",
        "dropout": 0.2,
        "bootstrap": 0,
        "optim": scale.finetune_optim("D-MLM"),
    }
    config = {
        "seed_everything": seed,
        "trainer": scale.finetune_trainer("val_auroc"),
        "model": {"class_path": "ClassificationModule", "init_args": options},
        "data": source.data(scale, seed=seed, **scale.finetune_data),
    }
    return Run(name, config, (PRETRAIN,), missing=missing)


def _test(scale: Scale, source: Source, of: str) -> dict[str, Any]:
    trainer = {
        "accelerator": "auto" if scale.is_paper else "cpu",
        "devices": 1,
        "enable_progress_bar": False,
        "logger": logger(),
    }
    model = {"class_path": "UncertaintyModule", "init_args": {"path": f"{{best:{of}}}"}}
    return {"seed_everything": 0, "trainer": trainer, "model": model, "data": source.data(scale, batch_size=64)}


def _table(scale: Scale, key: str, title: str, doubts: tuple[str, ...], runs: tuple[str, ...]) -> Table:
    cells = []
    for doubt in doubts:
        for column, metric in _MEASURES.items():
            own = metric != "ece_macro" or doubt in ("gaussian_samples", "mc_dropout")
            name = f"uncertainty/{doubt}/{metric}" if own else "uncertainty/ece_macro@0"
            cells.append(_cell(_DOUBTS[doubt], column, name, runs, scale, own or doubt == "max_probability"))
    rows = tuple(_DOUBTS[doubt] for doubt in doubts)
    return Table(key, title, rows, tuple(_MEASURES), tuple(cells), notes=_NOTES)


def _cell(row: str, column: str, metric: str, runs: tuple[str, ...], scale: Scale, has: bool) -> Cell:
    if not has:
        return Cell(row, column, metric, note="has no probabilities of its own")
    if column == "unseen" and scale.budget != "smoke":
        return Cell(row, column, metric, note="the data set does not say which studies are unfamiliar")
    return Cell(row, column, metric, runs)
