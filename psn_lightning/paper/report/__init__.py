"""Report: tables, figures and claims of the paper, compared with the record of runs."""
