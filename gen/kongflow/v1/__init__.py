"""Messages and stubs of `kongflow.v1`, generated from the protos."""
