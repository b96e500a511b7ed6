"""Engines that do the work of many machines, each as a `concurrent.futures.Executor`."""
