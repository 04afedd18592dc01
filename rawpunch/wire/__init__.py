"""wire: what is on the wire, as values. Segments, endpoints, options, ICMP errors, their bytes, their text, scapy packets."""
