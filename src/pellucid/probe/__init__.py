"""Probe: all that a method may ask of a network, and the promise that the network leaves as it came."""
