"""One short lease of a GPU machine, spent on measuring: `python3 -m bench.lease` runs every part."""
