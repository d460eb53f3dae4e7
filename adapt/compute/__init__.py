"""Devices, mixed precision and several processes."""
