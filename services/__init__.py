"""The two services of KongFlow and the embedded stack that runs them on one machine."""
