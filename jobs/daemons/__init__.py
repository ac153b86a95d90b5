"""The processes that serve until they are stopped: worker, reporter, reconciler, and the tasks that they take."""
