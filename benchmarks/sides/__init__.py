"""The work itself: each module has a `prepare(**work)` that gives a `worker.Prepared`."""
