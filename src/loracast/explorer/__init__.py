"""A page on this machine to see and try forecasts: data, sample paths, what-ifs, events, tuning."""
