"""The `csm` command."""
