"""live: the two kinds of ends on real sockets, kernel and raw, and what keeps the kernel's hands off the raw ones."""
