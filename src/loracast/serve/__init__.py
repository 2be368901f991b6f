"""Forecasts over HTTP: many adapters on one base, requests that arrive together drawn together, all within bounds."""
