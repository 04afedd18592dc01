"""nat: what NATs do, axis by axis; the NAT as a machine; named NATs; and what can be punched through which."""
