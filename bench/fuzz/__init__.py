"""Malformed requests on all ports and methods of real processes: `python -m bench.fuzz`."""
