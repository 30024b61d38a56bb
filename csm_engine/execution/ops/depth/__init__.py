"""The depth decoder's whole frame as one cooperative launch (docs/depth-decoder-kernel.md). Experimental."""
