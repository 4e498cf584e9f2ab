"""The Flower app of the benchmark, run by SuperLink and SuperNodes in Flower's own environment."""
