"""What the fast step does on a Hopper GPU, found out without one: its launches, their machine code, a model of time."""
