"""Secure aggregation: the server learns the sum of a round's vectors and nothing else about a single one.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", 2017, with the graph of Bell et
al., 2020, for many members. From the ground up, one idea in each file:

    randomness.py   where secrets come from
    encoding.py     facts as bytes, without ambiguity: what is hashed, signed and bound into keys
    keys.py         X25519 pairs, HKDF, commitments
    sealing.py      AES-GCM for shares on their way through the server
    shamir.py       a secret in n shares, of which t give it back
    masks.py        vectors of whole numbers, and keystreams that are added to them
    merkle.py       proof that an entry is in the roster
    graph.py        who shares with whom
    parameters.py   how many shares, how many neighbours: 2t > n + c, and exact tails
    terms.py        what a job fixes, and what follows from it for a cohort
    buckets.py      groups of workers that sum each for itself
    signing.py      who signs, and whose signatures count
    session.py      a frozen roster: its id, its keys' names, its statements
    messages.py     what is sent
    worker.py       a member's half, step by step
    server.py       the server's half
    recovery.py     secrets from shares, and who gave false ones
    policy.py       what a site insists on
    ring.py         updates as whole numbers
    ranges.py       how large their elements are, learned from sums
    summands.py     what a vector means: ranges, updates, measurements
    flat.py         a masked vector as bytes
    job.py          a job's sessions from its plan

The primitives are those of `cryptography`; all here is pure: no I/O, no clock; time and randomness are parameters.
"""
