"""Figures as plain marks, drawn from one definition to PNG and to a page."""
