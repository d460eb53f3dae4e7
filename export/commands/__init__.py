"""Commands of `uda-export`, one file each."""
