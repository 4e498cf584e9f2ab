"""What is drawn is drawn from the seed; what is ordered happens once."""

from __future__ import annotations

from tests.cluster.proxy.faults import ROUGH, Fault, Faults, Order, Upset


def drawn(faults: Faults) -> list[str]:
    asked = [faults.on_request(method, "/x", watch=False) for method in ("GET", "PUT") * 200]
    return [*asked, *(faults.on_event() for _ in range(400))]


def test_the_seed_decides() -> None:
    """The same seed draws the same faults, another one others."""
    one, same, other = (Faults(seed, requests=0.3, events=ROUGH) for seed in (1, 1, 2))
    assert drawn(one) == drawn(same) != drawn(other)
    assert one.happened == same.happened


def test_everything_happens() -> None:
    """With enough requests every fault and every upset comes, and about as often as asked for."""
    faults = Faults(7, requests=0.3, events=ROUGH)
    asked = [
        faults.on_request(method, "/x", watch=watch)
        for method, watch in (("GET", False), ("PUT", False), ("GET", True)) * 1000
    ]
    assert set(asked) == set(Fault)
    assert 0.65 < asked.count(Fault.NONE) / len(asked) < 0.75
    assert {faults.on_event() for _ in range(3000)} == set(Upset)


def test_reads_are_never_refused_like_writes() -> None:
    """A read is no conflict, and only a watch is too old."""
    faults = Faults(7, requests=1.0)
    reads = {faults.on_request("GET", "/x", watch=False) for _ in range(500)}
    assert not reads & {Fault.CONFLICT, Fault.GONE, Fault.CUT_AFTER, Fault.NONE}
    writes = {faults.on_request("PUT", "/x", watch=False) for _ in range(500)}
    assert Fault.GONE not in writes


def test_only_what_is_named_happens() -> None:
    """A proxy can be of one kind of trouble: what cannot happen to a request leaves it alone."""
    storm = Faults(7, requests=1.0, only=frozenset({Fault.CONFLICT}))
    assert set(drawn(storm)) == {Fault.NONE, Fault.CONFLICT}
    assert storm.happened == {"PUT 409": 200}


def test_orders_come_once_and_first() -> None:
    """An ordered fault happens to the next request that fits, and to no other; calm ends everything."""
    faults = Faults(orders=[Order("PUT", "/leases/", Fault.CUT_AFTER)])
    asked = [("GET", "/leases/a"), ("PUT", "/pods/a"), ("PUT", "/leases/a"), ("PUT", "/leases/a")]
    happened = [faults.on_request(method, path, watch=False) for method, path in asked]
    assert happened == [Fault.NONE, Fault.NONE, Fault.CUT_AFTER, Fault.NONE]
    assert faults.happened == {"PUT cut after": 1}
    rough = Faults(3, requests=1.0, events={Upset.CUT: 1.0})
    rough.calm()
    assert set(drawn(rough)) == {Fault.NONE.value, Upset.NONE.value}
