"""What is said on the wire, how arrays travel, and who may speak."""
