"""The version of the appliance."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("kiln")
except PackageNotFoundError:
    # Run from a folder that was never installed.
    VERSION = "0.0.0"
