"""What setup_dms.py applies: the chain, from bucket to alarms, as a list of resources."""
