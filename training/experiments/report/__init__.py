"""The papers' tables, figures and claims beside what was measured, from the runs' logs alone."""
