"""The chain of this project on one machine, without an AWS account."""
