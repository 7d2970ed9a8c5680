"""Say what the pre-training of examples/real_trial.yaml was good for.

python examples/python/real_trial_report.py --ckpt RUN/checkpoints/best.ckpt --manifest OUT.csv --root DATA_DIR

Prints, and writes as real_trial.md and real_trial.json into the run's folder: zero-shot AUC, and the AUC of a linear
probe on frozen features before pre-training (pooled, of ImageNet's EfficientNet-Lite0) and after it (the same, and
the mean of the image's Gaussian), each with a 95 % interval from 1,000 resamples of patients. Probes train on the
training split; their strength is chosen on validation. Differences are paired: both sides see the same resamples.

RSNA's test split has 27 images only, so its validation images are added in a second row. They chose the checkpoint and
the strength of the probes, so that row is optimistic, for all of its columns.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

from dmlm.datamodules import ManifestDataModule
from dmlm.datasets.splits import SPLITS, Split
from dmlm.evaluation import auroc, bootstrap_auc, linear_probe
from dmlm.io.atomic import write_json, write_text
from dmlm.models.packaged import efficientnet_lite0
from dmlm.models.zero_shot import encode_prompts, zero_shot_scores
from dmlm.tasks import DMLMPretrainModule

FINDINGS = {"Lung Opacity": "RSNA opacity", "Pneumonia": "kermany pneumonia"}
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
WAYS = ("zero-shot", "probe before", "probe after", "probe after (Gaussian mean)")
RESAMPLES = 1000


class Studies(NamedTuple):
    """Different images of a split that one of the findings is known of.

    Args:
        labels: float32 ``[n, 2]``, in the order of ``FINDINGS``.
        patients: ``n`` identifiers.
        features: Per way of looking, float32 ``[n, ...]``; ``"zero-shot"`` are scores ``[n, 2]``.
    """

    labels: np.ndarray[Any, Any]
    patients: np.ndarray[Any, Any]
    features: dict[str, np.ndarray[Any, Any]]


@torch.inference_mode()
def look(data: ManifestDataModule, split: Split, module: DMLMPretrainModule, untouched: torch.nn.Module) -> Studies:
    """Encode the images of a split with both encoders, without augmentation."""
    dataset = data.make_dataset(split, None)
    columns = [dataset.label_names.index(name) for name in FINDINGS]
    labels = dataset.labels[:, columns]
    rows = data.manifest.split(split)
    first = {row.image: place for place, row in reversed(list(enumerate(rows)))}  # training images may be repeated
    places = [place for place in sorted(first.values()) if np.isfinite(labels[place]).any()]
    prompts = encode_prompts(module.encoder, tuple(FINDINGS), module.zero_shot.templates)
    found: dict[str, list[torch.Tensor]] = {way: [] for way in WAYS}
    for batch in DataLoader(Subset(dataset, places), batch_size=64, collate_fn=data.collate):
        images = batch["image"]
        found["probe before"].append(untouched(images).pooled)
        found["probe after"].append(module.encoder.image(images).pooled)
        gaussian = module.encoder.encode_image(images).at(0)
        found["probe after (Gaussian mean)"].append(gaussian.mean)
        found["zero-shot"].append(zero_shot_scores(gaussian, prompts, module.zero_shot_distance))
    patients = np.array([rows[place].patient_id for place in places])
    return Studies(labels[places], patients, {way: torch.cat(parts).numpy() for way, parts in found.items()})


def scores_of(splits: dict[str, Studies], column: int, way: str) -> dict[str, np.ndarray[Any, Any]]:
    """Scores of one finding's known images of ``val`` and ``test``, each ``[n]``."""
    known = {name: np.isfinite(part.labels[:, column]) for name, part in splits.items()}
    x = {name: part.features[way][known[name]] for name, part in splits.items()}
    if way == "zero-shot":
        return {name: x[name][:, column] for name in ("val", "test")}
    y = {name: part.labels[known[name], column][:, None] for name, part in splits.items()}
    probe = linear_probe(x["train"], y["train"], x["val"], y["val"], x["test"], STRENGTHS)
    return {"val": probe.val_scores[:, 0], "test": probe.test_scores[:, 0]}


def difference(
    after: np.ndarray[Any, Any],
    before: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    patients: np.ndarray[Any, Any],
) -> list[float]:
    """Difference of two AUCs with the ends of its interval: ``[value, low, high]``."""
    groups = [np.flatnonzero(patients == patient) for patient in np.unique(patients)]
    drawn = []
    for resample in range(RESAMPLES):
        chosen = np.random.default_rng([0, resample]).integers(0, len(groups), len(groups))
        rows = np.concatenate([groups[place] for place in chosen])
        drawn.append(auroc(after[rows], labels[rows]) - auroc(before[rows], labels[rows]))
    value = auroc(after, labels) - auroc(before, labels)
    return [float(value), *(float(end) for end in np.nanquantile(drawn, [0.025, 0.975]))]


def results(splits: dict[str, Studies]) -> list[dict[str, Any]]:
    """One entry per row of the table: what it is about, counts, and per column ``[value, low, high]``."""
    entries = []
    for column, (finding, title) in enumerate(FINDINGS.items()):
        scores = {way: scores_of(splits, column, way) for way in WAYS}
        for names in (("test",), ("val", "test")) if finding == "Lung Opacity" else (("test",),):
            known = {name: np.isfinite(splits[name].labels[:, column]) for name in names}
            labels = np.concatenate([splits[name].labels[known[name], column] for name in names])
            patients = np.concatenate([splits[name].patients[known[name]] for name in names])
            entry: dict[str, Any] = {
                "finding": title,
                "split": "+".join(names),
                "present": int((labels == 1).sum()),
                "absent": int((labels == 0).sum()),
                "patients": len(np.unique(patients)),
            }
            joined = {way: np.concatenate([scores[way][name] for name in names]) for way in WAYS}
            for way in WAYS:
                interval = bootstrap_auc(joined[way][:, None], labels[:, None], patients, n=RESAMPLES).auc[0]
                entry[way] = [interval.value, interval.low, interval.high]
            entry["after - before"] = difference(joined["probe after"], joined["probe before"], labels, patients)
            entries.append(entry)
    return entries


def table(entries: list[dict[str, Any]], train: Studies) -> str:
    """Format the results as Markdown."""
    columns = (*WAYS, "after - before")
    lines = [
        f"| images | n+ / n- | {' | '.join(columns)} |",
        "|:--|--:|" + "--:|" * len(columns),
    ]
    for entry in entries:
        cells = [f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in (entry[name] for name in columns)]
        note = " (optimistic)" if "+" in entry["split"] else ""
        start = f"{entry['finding']}, {entry['split']}{note} | {entry['present']} / {entry['absent']}"
        lines.append(f"| {start} | {' | '.join(cells)} |")
    counts = [int(np.isfinite(train.labels[:, column]).sum()) for column in range(len(FINDINGS))]
    lines += [
        "",
        f"AUC [95 % interval, {RESAMPLES:,} resamples of patients]. Probes: logistic regression on frozen features of "
        f"{counts[0]} (RSNA) and {counts[1]} (kermany) training images, strength chosen on validation; before: "
        "ImageNet's EfficientNet-Lite0. Optimistic: validation images also chose the checkpoint and the strength.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Zero-shot and linear-probe AUC before and after a real trial.")
    parser.add_argument("--ckpt", type=Path, required=True, help="a checkpoint of the run of real_trial.yaml")
    parser.add_argument("--manifest", required=True, help="what prepare_real_trial.py wrote")
    parser.add_argument("--root", required=True, help="folder of the radiographs")
    options = parser.parse_args()
    module = DMLMPretrainModule.load_from_checkpoint(options.ckpt, map_location="cpu").eval()
    data = ManifestDataModule.load_from_checkpoint(options.ckpt, path=options.manifest, root=options.root)
    untouched = efficientnet_lite0(module.encoder.image.image_size).eval()
    splits = {split: look(data, split, module, untouched) for split in SPLITS}
    entries = results(splits)
    text = table(entries, splits["train"])
    print(text)
    parents = options.ckpt.resolve().parents
    folder = parents[1] if parents[0].name == "checkpoints" else parents[0]
    write_text(folder / "real_trial.md", text + "\n")
    write_json(folder / "real_trial.json", {"checkpoint": str(options.ckpt), "rows": entries})
    print(f"written to {folder}: real_trial.md, real_trial.json")


if __name__ == "__main__":
    main()
