"""Calls to customers' endpoints: the protocol and the guard in front of every request."""
