"""The FL server: models out, updates in, one exact sum, the next model."""
