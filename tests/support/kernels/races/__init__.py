"""Looks for races between the programs of one cooperative launch, in Triton's interpreter."""
