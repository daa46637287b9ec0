"""The pair and other job queues side by side: each one's processes, and how they are spoken to.

Every side has a *caller*, which enqueues when it is told to, and *workers*, which carry out queue jobs that do nothing.
All are processes of their own. The caller reads commands from its standard input, one JSON object per line, and answers
each with a line; workers write when a numbered job began to a file. Every time is this machine's clock, in seconds
since 1970.
"""
