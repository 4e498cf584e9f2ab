"""Stages that make an update smaller: one file per stage, named by its YAML word."""
