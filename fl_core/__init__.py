"""What an FLJob is, what its processes say to each other, and the mathematics they share."""
