from __future__ import annotations

from importlib.metadata import version
from typing import get_args

from job_generator.settings import Images, Settings
from job_generator.spec import Program


def test_images() -> None:
    """There is an image for every framework of the API, all with one tag and below one prefix."""
    images = Images.of("2.1", prefix="house/")
    frameworks = get_args(Program.model_fields["framework"].annotation)
    assert set(images.workers) == set(frameworks)
    every = (images.control, images.store, *images.workers.values())
    assert {image.rpartition(":")[2] for image in every} == {"2.1"}
    assert all(image.startswith("house/fljob") for image in every)


def test_defaults() -> None:
    """Without anything said the images are those of this version, and the operator is where its chart puts it."""
    settings = Settings()
    assert settings.images == Images.of(version("fljob"))
    assert settings.enrolment == "https://fljob-operator.fljob-system.svc:8443"
