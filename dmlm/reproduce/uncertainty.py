"""What uncertainty is worth, as a plan: one pre-training, classifiers from it, and a test of every kind of doubt."""

from __future__ import annotations

from dmlm.errors import ConfigError
from dmlm.reproduce.paper_tables import SMOKE_NOTE, pretraining
from dmlm.reproduce.plan import Cell, Plan, Run, Table, seeded
from dmlm.reproduce.radiograph_tasks import UNSEEN
from dmlm.reproduce.radiographs import STEPS, length, seed_pretraining
from dmlm.reproduce.scale import Scale, logger, trainer

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

_DATA = {
    "smoke": SMOKE_NOTE,
    "trial": "Kermany's radiographs of children: normal or bacterial pneumonia; viral pneumonia is the unseen finding. "
    "To the zero-shot model, which knows the word pneumonia, it is not unseen in the same sense.",
}


def uncertainty(scale: Scale) -> Plan:
    """Doubts of the zero-shot model and of classifiers that were fine-tuned from it with dropout.

    Raises:
        ConfigError: If the budget is ``paper``.
    """
    if scale.is_paper:
        msg = "uncertainty is no table of the paper and has no such size: use --budget trial, or smoke for phantoms"
        raise ConfigError(msg)
    before = pretraining(scale) if scale.budget == "smoke" else seed_pretraining(scale, 0)
    missing = UNSEEN.missing(scale) or before.missing
    runs = [before, _test(scale, "uncertainty-zero-shot", before.name, missing)]
    trained, tested = seeded("uncertainty-train", scale.seeds), seeded("uncertainty-classifier", scale.seeds)
    for seed, name, test in zip(scale.seeds, trained, tested, strict=True):
        runs += [_classifier(scale, name, before.name, seed, missing), _test(scale, test, name, missing)]
    zero_shot = tuple(name for name in _DOUBTS if name != "mc_dropout")
    classifier = ("uncertainty-classifier", "Uncertainty of a fine-tuned classifier (x 100)")
    untuned = ("uncertainty-zero-shot", "Uncertainty of zero-shot classification (x 100)")
    tables = (_table(scale, *classifier, tuple(_DOUBTS), tested), _table(scale, *untuned, zero_shot, (runs[1].name,)))
    return Plan(tuple(runs), tables)


def _classifier(scale: Scale, name: str, before: str, seed: int, missing: str) -> Run:
    smoke = scale.budget == "smoke"
    options = {
        "encoder": {"class_path": "dmlm.models.from_pretrained", "init_args": {"path": f"{{best:{before}}}"}},
        "num_classes": 9 if smoke else 1,
        "task": "multilabel" if smoke else "binary",
        "dropout": 0.2,
        "bootstrap": 0,
        "optim": scale.finetune_optim("D-MLM"),
    }
    short = trainer(length(STEPS, STEPS // 2), "val_auroc", "max", accelerator="cpu")
    batch = scale.finetune_data if smoke else {"batch_size": 16, "min_epoch_steps": STEPS // 2}
    config = {
        "seed_everything": seed,
        "trainer": scale.finetune_trainer("val_auroc") if smoke else short,
        "model": {"class_path": "ClassificationModule", "init_args": options},
        "data": UNSEEN.data(scale, seed=seed, **batch),
    }
    return Run(name, config, (before,), missing=missing)


def _test(scale: Scale, name: str, of: str, missing: str) -> Run:
    config = {
        "seed_everything": 0,
        "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "logger": logger()},
        "model": {"class_path": "UncertaintyModule", "init_args": {"path": f"{{best:{of}}}"}},
        "data": UNSEEN.data(scale, batch_size=64),
    }
    return Run(name, config, (of,), verb="test", missing=missing)


def _table(scale: Scale, key: str, title: str, doubts: tuple[str, ...], runs: tuple[str, ...]) -> Table:
    cells = []
    for doubt in doubts:
        for column, metric in _MEASURES.items():
            own = metric != "ece_macro" or (doubt in ("gaussian_samples", "mc_dropout") and "mc_dropout" in doubts)
            name = f"uncertainty/{doubt}/{metric}" if own else "uncertainty/ece_macro@0"
            cells.append(_cell(_DOUBTS[doubt], column, name, runs, own or doubt == "max_probability"))
    rows = tuple(_DOUBTS[doubt] for doubt in doubts)
    return Table(key, title, rows, tuple(_MEASURES), tuple(cells), notes=(_DATA[scale.budget], *_NOTES))


def _cell(row: str, column: str, metric: str, runs: tuple[str, ...], has: bool) -> Cell:
    if not has:
        return Cell(row, column, metric, note="has no probabilities of its own")
    return Cell(row, column, metric, runs)
