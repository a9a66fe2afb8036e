"""What this package costs: ``make bench``."""
