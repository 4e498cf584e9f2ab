"""Words that authors know from elsewhere and no job can have: what they are, and the nearest thing that works."""

from __future__ import annotations

_ASYNCHRONOUS = (
    "is for asynchronous training, where each update starts from another model: there is no cohort whose masks would "
    "cancel in a secure sum, and no round that could be made again from its seed; all jobs go in rounds; the nearest "
    "is spec.selection.extra, with which a round closes without its slowest workers"
)
_BY_LOSS = (
    "chooses workers by their losses, which secure aggregation shows to nobody, and which tell of a worker's data; "
    "the nearest is uniform, with all workers in each round or more of them in spec.selection.perRound"
)
_SPARSE = (
    "sends another choice of elements from each worker: which these are tells of its data, and masks cancel only where "
    "all send the same; the nearest is spec.secureAggregation: {bits: 16}, or float16 without secure aggregation"
)
_COMBINERS = (
    "is for servers between the workers and the job's own, each of which would see the sum of a few: the workers of a "
    "job have one server; the nearest is spec.secureAggregation: {profile: cross-device}, for more than 100"
)

_NAMES = {
    **dict.fromkeys(("fedbuff", "fedasync"), _ASYNCHRONOUS),
    **dict.fromkeys(("loss", "high_loss", "oort", "power_of_choice"), _BY_LOSS),
    **dict.fromkeys(("topk", "top_k"), _SPARSE),
}
_FIELDS = {
    **dict.fromkeys(("mode", "async", "asynchronous", "staleness", "bufferSize"), _ASYNCHRONOUS),
    **dict.fromkeys(("combiner", "combiners"), _COMBINERS),
}
_ONLY = {"mode": ("asynchronous", "async")}
"""Fields that mean it with these values only."""


def name(word: str) -> str:
    """Why there is no strategy, rule, policy or stage of this name; empty where nothing is known of it."""
    return _NAMES.get(word.lower().replace("-", "_"), "")


def field(word: str, value: object) -> str:
    """Why there is no such field; empty where nothing is known of it, or not with this value."""
    if word in _ONLY and str(value).lower() not in _ONLY[word]:
        return ""
    return _FIELDS.get(word, "")
