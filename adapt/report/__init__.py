"""Write reports as single HTML pages: of runs, of data sets, of sweeps and of the demo."""
