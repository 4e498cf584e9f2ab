"""Running a Plan on this machine: its processes, its folder, and what the user sees of it."""
