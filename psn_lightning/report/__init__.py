"""Statistics, tables, figures and verdicts from the record of runs."""
