"""Who goes: one small file for each rule, selected by name."""
