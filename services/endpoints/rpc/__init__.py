"""The gRPC face: servicers, conversion, errors, interceptors and callers."""
