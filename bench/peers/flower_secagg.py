"""SecAgg+ of Flower in processor time: `python flower_secagg.py COUNTS-AS-JSON [memory]` prints one JSON line.

It runs in Flower's environment and imports nothing of ours. One client goes through all stages of Flower's client mod
with as many neighbours as the counts say; of the server's work, each function that its workflow calls is measured by
itself and counted as often as the workflow calls it. Settings are the workflow's defaults.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.client.mod.secure_aggregation.secaggplus_mod import (
    SecAggPlusState,
    _collect_masked_vectors,
    _setup,
    _share_keys,
    _unmask,
)
from flwr.common import Code, FitRes, Status, bytes_to_ndarray, ndarray_to_bytes, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import encrypt, generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen, share_keys_plaintext_concat
from flwr.compat.common.recorddict_compat import fitres_to_recorddict
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import WorkflowState
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)
from flwr.supercore.task_identity import TaskIdentity

ARRAYS = 10
EXAMPLES = 100
TRIES = 3
MASK_TRIES = 9


def costs(counts: dict[str, int]) -> dict[str, float]:
    """Processor seconds of one mask, of a client, of the server; bytes that a client sends."""
    defaults = SecAggPlusWorkflow(counts["neighbours"] + 1, counts["threshold"])
    worker, upload = client(counts, defaults)
    return {
        "mask": masking(counts, defaults),
        "worker": worker,
        "server": server(counts, defaults),
        "upload": upload,
    }


def masking(counts: dict[str, int], defaults: SecAggPlusWorkflow) -> float:
    """One mask made and added."""
    vector = factor_combine(EXAMPLES, whole(counts))
    shapes, seed = get_parameters_shape(vector), os.urandom(32)
    return best(
        lambda: parameters_addition(vector, pseudo_rand_gen(seed, defaults.modulus_range, shapes)), MASK_TRIES
    )


def client(counts: dict[str, int], defaults: SecAggPlusWorkflow) -> tuple[float, int]:
    """One client through its four stages; the last neighbours are lost after they shared."""
    parameters = ndarrays_to_parameters(update(counts))
    state = SecAggPlusState()
    start = time.process_time()
    said = [_setup(state, settings(counts, defaults))]
    spent = time.process_time() - start

    others = {str(n): [public_key(), public_key()] for n in range(1, counts["neighbours"] + 1)}
    roster = {"0": [state.pk1, state.pk2], **others}
    start = time.process_time()
    said.append(_share_keys(state, roster))
    spent += time.process_time() - start

    share = os.urandom(52)
    texts = [share_keys_plaintext_concat(n, 0, share, share) for n in state.ss2_dict]
    sealed = [encrypt(key, text) for key, text in zip(state.ss2_dict.values(), texts, strict=True)]
    dealt = {Key.CIPHERTEXT_LIST: sealed, Key.SOURCE_LIST: list(state.ss2_dict)}
    start = time.process_time()
    said.append(_collect_masked_vectors(state, dealt, EXAMPLES, parameters))
    spent += time.process_time() - start

    circle = list(range(counts["neighbours"] + 1))
    live, dead = circle[: counts["holders"]], circle[counts["holders"] :]
    start = time.process_time()
    said.append(_unmask(state, {Key.ACTIVE_NODE_ID_LIST: live, Key.DEAD_NODE_ID_LIST: dead}))
    return spent + time.process_time() - start, sum(sizes(each) for each in said)


def server(counts: dict[str, int], defaults: SecAggPlusWorkflow) -> float:
    """All that `SecAggPlusWorkflow` does between its messages that grows with members or elements."""
    vector = factor_combine(EXAMPLES, whole(counts))
    arrived = [ndarray_to_bytes(array) for array in vector]
    shapes, span = get_parameters_shape(vector), defaults.modulus_range
    key, other = private_key_to_bytes(generate_key_pairs()[0]), public_key()
    shares = create_shares(key[:32], counts["threshold"], counts["neighbours"] + 1)[: counts["holders"]]
    pairs = counts["pairs"]
    opened = counts["survivors"] + counts["gone"]

    def mean() -> None:
        factor, recovered = factor_extract(parameters_mod(vector, span))
        arrays = dequantize(recovered, defaults.clipping_range, defaults.quantization_range)
        for array in arrays:
            np.add(array, -(counts["survivors"] - 1) * defaults.clipping_range, out=array)
            np.multiply(array, defaults.quantization_range / factor, out=array)

    return (
        counts["survivors"] * best(lambda: parameters_addition(vector, list(map(bytes_to_ndarray, arrived))))
        + opened * best(lambda: combine_shares(shares))
        + (counts["survivors"] + pairs)
        * best(lambda: parameters_subtraction(vector, pseudo_rand_gen(key[:32], span, shapes)))
        + pairs * best(lambda: generate_shared_key(bytes_to_private_key(key), bytes_to_public_key(other)))
        + best(mean)
    )


def memory(counts: dict[str, int]) -> int:
    """Bytes beyond idle of a server that runs the workflow's stage in which the vectors come."""
    nodes = list(range(counts["survivors"]))
    vector = factor_combine(EXAMPLES, whole(counts))
    state = WorkflowState(
        nid_to_proxies=dict.fromkeys(nodes),
        nid_to_fitins={node: RecordDict() for node in nodes},
        sampled_node_ids=set(nodes),
        active_node_ids=set(nodes),
        mod_range=1 << 32,
        nid_to_neighbours={node: set(nodes) for node in nodes},
        forward_srcs={node: [] for node in nodes},
        forward_ciphertexts={node: [] for node in nodes},
    )
    config = {"config": ConfigRecord({"current_round": 1})}
    context = SimpleNamespace(state=SimpleNamespace(config_records=config))

    def arriving(_: list[Message], **_settings: float | None) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(
                has_error=lambda: False, metadata=SimpleNamespace(src_node_id=node), content=said_with(vector)
            )
            for node in nodes
        ]

    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    Path("/proc/self/clear_refs").write_text("5")
    idle = held("VmRSS")
    workflow = SecAggPlusWorkflow(max(3, counts["neighbours"] + 1), counts["threshold"])
    if not workflow.collect_masked_vectors_stage(SimpleNamespace(send_and_receive=arriving), context, state):
        raise SystemExit("Flower's workflow did not take the vectors")
    return held("VmHWM") - idle


def said_with(vector: list[np.ndarray]) -> RecordDict:
    """One client's answer."""
    none = ndarrays_to_parameters([])
    said = fitres_to_recorddict(FitRes(Status(Code.OK, ""), none, EXAMPLES, {}), keep_input=False)
    said.config_records[RECORD_KEY_CONFIGS] = ConfigRecord(
        {Key.MASKED_PARAMETERS: [ndarray_to_bytes(array) for array in vector]}
    )
    return said


def public_key() -> bytes:
    """A fresh one."""
    return public_key_to_bytes(generate_key_pairs()[1])


def settings(counts: dict[str, int], defaults: SecAggPlusWorkflow) -> dict[str, int | float]:
    """What the workflow tells its clients."""
    return {
        Key.SAMPLE_NUMBER: counts["survivors"] + counts["gone"],
        Key.SHARE_NUMBER: counts["neighbours"] + 1,
        Key.THRESHOLD: counts["threshold"],
        Key.CLIPPING_RANGE: defaults.clipping_range,
        Key.TARGET_RANGE: defaults.quantization_range,
        Key.MOD_RANGE: defaults.modulus_range,
        Key.MAX_WEIGHT: defaults.max_weight,
    }


def update(counts: dict[str, int]) -> list[np.ndarray]:
    """An update in ten arrays."""
    random, size = np.random.default_rng(0), max(1, counts["elements"] // ARRAYS)
    return [random.normal(0, 0.1, size).astype("f4") for _ in range(ARRAYS)]


def whole(counts: dict[str, int]) -> list[np.ndarray]:
    """The same as whole numbers; 64 bits is what a masked vector of Flower's has."""
    return [np.ones(max(1, counts["elements"] // ARRAYS), np.int64) for _ in range(ARRAYS)]


def sizes(said: dict[str, object]) -> int:
    """Bytes of what a stage returns; a number counts eight."""
    lists = [each if isinstance(each, list) else [each] for each in said.values()]
    return sum(len(one) if isinstance(one, bytes) else 8 for each in lists for one in each)


def best(act: Callable[[], object], tries: int = TRIES) -> float:
    """The least processor time of a few tries."""
    times = []
    for _ in range(tries):
        start = time.process_time()
        act()
        times.append(time.process_time() - start)
    return min(times)


def held(what: str) -> int:
    """Bytes that this process holds (`VmRSS`), or held at most (`VmHWM`)."""
    match = re.search(rf"^{what}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(match[1]) * 1024


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    print(json.dumps({"memory": memory(wanted)} if "memory" in sys.argv[2:] else costs(wanted)))
