"""replay: captured flows and written scripts played again, one side or both, and compared with what they were."""
