"""Builds the images from docker/*.Dockerfile, with Docker or, where it does not run, with Podman."""
