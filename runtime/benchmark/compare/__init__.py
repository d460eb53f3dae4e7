"""Compare every way to run a bundle on this machine."""
