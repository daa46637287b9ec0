"""The contract of KongFlow, generated from the protos."""
