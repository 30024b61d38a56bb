"""The wheels that a GPU machine without network needs."""
