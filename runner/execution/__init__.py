"""Carries out a play: steps in order, one connection a host, events on the way."""
