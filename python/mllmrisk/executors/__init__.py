"""Where work runs: in this process (`local`), or on the machines of a Ray cluster (`ray`)."""
