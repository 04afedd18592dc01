"""How to open a connection through two NATs: which port comes next, at what odds, and the plan. Pure: no I/O, no clock."""
