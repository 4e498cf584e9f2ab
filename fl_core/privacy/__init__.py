"""Differential privacy: what is added to updates, what that costs, and the file in which the cost is kept.

stream -> table -> noise      private random words; exact draws from a law; Skellam, discrete Gaussian, normal
clipping, rounding            what bounds a worker's or an example's influence, as reals and as whole numbers
mechanisms/                   gaussian, skellam, local, dp_sgd: what worker and server do, and what a round costs
costs, accountant             the cost of a release as numbers; epsilon from many of them
ledger                        every charge on disk before its release; the only file here that does I/O

Nothing here takes randomness from a job's seed: noise that can be replayed can be subtracted.
"""
