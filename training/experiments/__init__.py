"""The papers' experiments, and this project's own: what they train, measure and report."""
