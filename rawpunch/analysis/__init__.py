"""analysis: what the data says. Intervals, tables, plots, and the ladder that draws one attempt to time scale."""
