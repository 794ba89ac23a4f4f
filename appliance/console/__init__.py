"""The console on the device: a pure client of the API."""
