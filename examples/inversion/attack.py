"""What a server can see in one worker's update: its training images, or, with secure aggregation, nothing.

    python examples/inversion/attack.py

A worker computes one gradient of a small network on eight handwritten digits and hands it in. The gradient of a hidden
unit's weights over that of its bias is the mean of the images that switch the unit on; where a unit was switched on by
one image only, that image stands there, pixel for pixel. Then the same update is masked by the real protocol.

Zhu, Liu, Han, "Deep Leakage from Gradients", 2019; Geiping, Bauermeister, Droege, Moeller, "Inverting Gradients", 2020.
"""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

from fl_core.identity import Authority, Identity
from fl_core.secagg.masks import Layout, Vector
from fl_core.secagg.ring import Ring, public_dither
from fl_core.secagg.server import Host
from fl_core.secagg.session import Context
from fl_core.secagg.signing import AuthorityTrust, CertifiedSigner
from fl_core.secagg.terms import Terms
from fl_core.secagg.worker import Me, Member

Image = npt.NDArray[np.float64]
Update = dict[str, npt.NDArray[np.float32]]

IMAGES, PIXELS, HIDDEN, CLASSES = 8, 64, 1024, 10
BRIGHTEST = 16
EXPONENT = 8
PICTURE = Path(__file__).parents[2] / "docs/images/inversion.svg"


@dataclass(frozen=True)
class Forgetful:
    """A member's memory that lasts for one session: enough for a picture, and for nothing else."""

    def bind(self, context: Context, candidacy: bytes, content: bytes) -> None:
        """Note nothing."""

    def sign(self, context: Context, statement: bytes) -> None:
        """Note nothing."""


def gradient(images: Image, labels: npt.NDArray[np.int64], *, seed: int) -> Update:
    """One worker's update: the gradient of the mean cross-entropy of a fresh network with one hidden layer."""
    random = np.random.default_rng(seed)
    inner = random.normal(size=(PIXELS, HIDDEN)) / PIXELS
    outer = random.normal(size=(HIDDEN, CLASSES)) / np.sqrt(HIDDEN)
    bias = -random.uniform(0, 1, HIDDEN)
    before = images @ inner + bias
    active = before > 0
    scores = np.where(active, before, 0) @ outer
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(len(labels)), labels] -= 1
    back = (shares / len(labels)) @ outer.T * active
    return {"weights": (images.T @ back).astype(np.float32), "bias": back.sum(axis=0).astype(np.float32)}


def invert(update: Update, count: int) -> list[Image]:
    """The clearest images in an update: for each unit the quotient, those first whose pixels are whole numbers."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotients = (update["weights"] / update["bias"]).T.astype(np.float64)
    whole = np.abs(quotients - np.rint(quotients)).max(axis=1)
    found: list[Image] = []
    for unit in np.argsort(np.where(np.isfinite(whole), whole, np.inf)):
        candidate = np.nan_to_num(quotients[unit], posinf=0, neginf=0)
        if all(np.abs(candidate - known).max() > 1 for known in found):
            found.append(candidate)
        if len(found) == count:
            break
    return found


def masked(update: Update, *, members: int = 3) -> Update:
    """What the server sees of the same update under secure aggregation, read as if it were not masked."""
    ring = Ring(bits=32, members=members, most_weight=1)
    words, _ = ring.encode(
        update, [EXPONENT] * len(update), weight=1, dither=public_dither(0, round=1, worker=0)
    )
    layout = Layout(header=0, body=words.size, bits=32)
    vector = Vector.of(layout, np.empty(0, "<u8"), words)
    _mask(vector, layout, members=members)
    values = vector.body.view("<i4") * (2.0**EXPONENT / ring.levels)
    size = update["weights"].size
    return {
        "weights": values[:size].reshape(PIXELS, HIDDEN).astype(np.float32),
        "bias": values[size:].astype(np.float32),
    }


def _mask(vector: Vector, layout: Layout, *, members: int) -> None:
    """Run a session of so many members as far as the first one's masked vector."""
    authority = Authority("inversion")
    trust = AuthorityTrust.of("inversion", authority.dump()[1], clock=lambda: dt.datetime.now(dt.UTC))
    context = Context("inversion", "", 1, 1, "update", "", "", Terms())
    host = Host(context, trust)
    signers = [CertifiedSigner(authority.issue(Identity("inversion", "worker", n))) for n in range(members)]
    cast = [Member(Me(signer, trust, Forgetful(), os.urandom), context) for signer in signers]
    for number, member in enumerate(cast):
        host.advertised(number, member.advertise())
    for number, roster in host.freeze().items():
        host.shared_by(number, cast[number].share(roster))
    cast[0].mask(vector, layout, host.deal()[0])


def nearest(truth: Image, found: list[Image]) -> list[Image]:
    """For each true image the found one that is closest to it."""
    return [min(found, key=lambda one: float(np.abs(image - one).max())) for image in truth]


def recovered(truth: Image, found: list[Image]) -> int:
    """How many true images were found, to less than one of 16 steps of grey in every pixel."""
    pairs = zip(truth, nearest(truth, found), strict=True)
    return sum(bool(np.abs(image - one).max() < 1) for image, one in pairs)


def draw(rows: dict[str, list[Image]]) -> str:
    """All images as one SVG, a row for each text."""
    side, gap, text = 6, 14, 150
    parts = []
    for line, (title, images) in enumerate(rows.items()):
        top = line * (8 * side + gap)
        parts.append(f'<text x="0" y="{top + 4 * side + 4}">{title}</text>')
        for column, image in enumerate(images):
            left = text + column * (8 * side + gap)
            grey = np.clip(255 - image * 255 / BRIGHTEST, 0, 255).astype(int)
            parts += [
                f'<path fill="#{tone:02x}{tone:02x}{tone:02x}" '
                f'd="M{left + n % 8 * side} {top + n // 8 * side}h{side}v{side}h-{side}z"/>'
                for n, tone in enumerate(grey.tolist())
            ]
    width, height = text + IMAGES * (8 * side + gap), len(rows) * (8 * side + gap)
    style = "font-family:sans-serif;font-size:13px;fill:#555"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" style="{style}">'
    return head + "".join(parts) + "</svg>\n"


def main() -> None:
    """Attack both, say how it went, and write the picture of the documentation."""
    data = load_digits()
    images, labels = data.data[:IMAGES], data.target[:IMAGES]
    update = gradient(images, labels, seed=1)
    plain, hidden = invert(update, IMAGES), invert(masked(update), IMAGES)
    for what, found in (("single update", plain), ("masked update", hidden)):
        click.echo(f"{what}: {recovered(images, found)} of {IMAGES} images recovered")
    rows = {
        "the worker's images": list(images),
        "from its update": nearest(images, plain),
        "from its masked update": nearest(images, hidden),
    }
    PICTURE.write_text(draw(rows), encoding="utf-8")
    click.echo(f"the picture: {PICTURE}")


if __name__ == "__main__":
    main()
