"""Which task goes where: the policies, run once a drain."""
