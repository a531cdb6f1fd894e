"""Diagnostics of spec files: place, rule, value and what to write instead."""
