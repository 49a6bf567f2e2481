"""Where independent jobs are done: in this process, in others, or on other machines."""
