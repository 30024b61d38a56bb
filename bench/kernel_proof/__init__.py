"""The fast step on a Hopper GPU, analysed without one: its launches, their machine code, a model of their time."""
