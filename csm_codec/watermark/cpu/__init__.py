"""The embedding networks on a CPU: Winograd's filtering, compiled by numba. Only here."""
