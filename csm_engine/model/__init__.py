"""The CSM model: its modules, its checkpoint layouts, its loader."""
