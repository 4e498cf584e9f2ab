"""The picture in the documentation is what happens: an update gives its images away, a masked one does not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from sklearn.datasets import load_digits

FILE = Path(__file__).parents[2] / "examples/inversion/attack.py"


@pytest.fixture(scope="module")
def attack() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("attack", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["attack"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", range(1, 4))
def test_an_update_gives_its_images_away_and_a_masked_one_does_not(attack: ModuleType, seed: int) -> None:
    """From a single update most images come back to the pixel; from what the server sees with masks not one."""
    data = load_digits()
    first = attack.IMAGES * seed
    images, labels = data.data[first : first + attack.IMAGES], data.target[first : first + attack.IMAGES]
    update = attack.gradient(images, labels, seed=seed)
    assert attack.recovered(images, attack.invert(update, attack.IMAGES)) >= attack.IMAGES - 2
    assert attack.recovered(images, attack.invert(attack.masked(update), attack.IMAGES)) == 0
