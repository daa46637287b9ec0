"""A small app in Python that speaks the endpoint protocol, as an app on the SDK would."""
