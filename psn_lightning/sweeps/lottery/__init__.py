"""The lottery ticket as a command: levels of pruning and training, each a fit in a process of its own."""
