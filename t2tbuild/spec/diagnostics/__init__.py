"""What is wrong with a spec file: its place, the rule, the value, and what to write instead."""
