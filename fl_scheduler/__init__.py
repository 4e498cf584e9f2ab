"""The FL scheduler: who attends, and who takes part in a round."""
