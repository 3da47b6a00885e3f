"""Set the environment once, before anything imports paddle."""

from harness import environment

environment.prepare(threads=1)
