"""The version of the appliance, which pyproject.toml repeats: to ask the installation for it takes 13 ms a start."""

VERSION = "0.1.0"
