"""probe: asking what a NAT does, from inside and from outside. Pure: messages and answers as values, no socket and no clock."""
