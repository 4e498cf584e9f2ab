"""`fl-submit`: one file per command."""
