"""lab: kernel hosts, NATs and delays in network namespaces that this toolkit makes itself."""
