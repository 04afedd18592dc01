"""record: the words and rows that all drivers write, and the one function that tells a handshake's wire pattern."""
