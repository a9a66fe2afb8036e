"""``psn-train bench``: the speed of this machine, measured in turn, as tables, JSON and a figure."""
