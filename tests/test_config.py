"""`Configurable`: what is recorded, that it is plain, and that it rebuilds."""

import copy
import enum
import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dmlm._config import Configurable, build, class_path, plain
from dmlm.errors import CheckpointError, ConfigError


class Kind(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Rates:
    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)


class Tower(Configurable, nn.Module):
    def __init__(self, width: int = 3, span: tuple[float, float] = (0.0, 1.0), **extra: int) -> None:
        super().__init__()
        self.width, self.span, self.extra = width, span, extra
        self.layer = nn.Linear(width, width)


class Model(Configurable, nn.Module):
    def __init__(self, tower: Tower, rates: Rates | None = None, names: list[str] | None = None) -> None:
        super().__init__()
        self.tower, self.rates, self.names = tower, rates, names


class Resolved(Configurable):
    """Records something else than what was passed."""

    def __init__(self, pretrained: bool = True) -> None:
        self.pretrained = pretrained

    @property
    def config(self):
        return {"class_path": class_path(type(self)), "init_args": {"pretrained": False}}


def test_positional_keyword_default_and_extra_arguments_are_recorded():
    assert Tower(5, depth=2).config == {
        "class_path": f"{__name__}.Tower",
        "init_args": {"width": 5, "span": [0.0, 1.0], "depth": 2},
    }


def test_nested_objects_dataclasses_and_tuples_come_back():
    model = Model(Tower(4, (2.0, 3.0)), Rates(0.5), ["a"])
    rebuilt = build(json.loads(json.dumps(model.config)), nn.Module)
    assert rebuilt.config == model.config
    assert rebuilt.tower.span == (2.0, 3.0)
    assert rebuilt.rates == Rates(0.5)
    assert rebuilt.names == ["a"]


def test_an_override_of_config_is_what_a_parent_records():
    assert plain(Resolved()) == {"class_path": f"{__name__}.Resolved", "init_args": {"pretrained": False}}


def test_recording_does_not_disturb_copies_pickles_and_errors():
    model = Model(Tower(2))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.config == model.config
        assert list(dict(twin.named_parameters())) == ["tower.layer.weight", "tower.layer.bias"]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'tower'"):
        Model()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Kind.RED, "red"),
        (Path("a/b"), "a/b"),
        (np.float32(0.5), 0.5),
        (torch.tensor(3), 3),
        ((1, [2, None]), [1, [2, None]]),
        ({"a": Rates()}, {"a": {"lr": 0.1, "betas": [0.9, 0.99]}}),
    ],
)
def test_plain(value, expected):
    result = plain(value)
    assert result == expected
    json.dumps(result)


def test_what_cannot_be_written_down_is_refused():
    with pytest.raises(ConfigError, match="of type function cannot be recorded"):
        plain(lambda: None)


def test_class_path_is_the_shortest_public_one():
    from dmlm.models.encoder import ProbabilisticEncoder

    assert class_path(ProbabilisticEncoder) == "dmlm.models.ProbabilisticEncoder"
    assert class_path(Configurable) == "dmlm._config.Configurable"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"class_path": "no.such.Thing"}, "f.ckpt: class 'no.such.Thing' cannot be imported"),
        ({"class_path": "os.system", "init_args": {"command": "true"}}, "expected a Module, found 'os.system'"),
        ({"class_path": "torch.nn.Linear"}, "expected a Module, found 'torch.nn.Linear'"),
        ({"class_path": f"{__name__}.Model", "init_args": {"towr": 1}}, "does not take the recorded arguments"),
        ({}, "cannot be imported"),
    ],
)
def test_build_refuses(config, message):
    with pytest.raises(CheckpointError, match=message):
        build(config, nn.Module, "f.ckpt")
