"""What `fl-submit` does with jobs on a cluster, under the user's own rights."""
