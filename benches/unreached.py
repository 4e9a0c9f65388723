"""What stops a goal that is not reached: by how the row's work begins, one sentence. Rows that reach theirs need none."""

_REASONS = {
    "`default` set": "half of what it was; what is left are the tile transforms (0.25 ms at 512 px, near what their "
    "operations take), the block DCT and the cross-differences (0.15 and 0.19 ms, a third of which is known to be saved by "
    "one pass over the 16 products) and co-occurrence counts, which are bound by stores (0.15 ms)",
    "set `all`": "the costly families are not looked into yet: srm30's pairs, the fill of glcm and the grades of aide",
    "decode webp": "both are libwebp: ours is compiled for SSE2 and chooses wider code at run time, and the binding asks "
    "for no more; the rest is the call",
    "files, ": "half of our time is entropy decoding of the rows above the crop, which both sides pay; worker processes "
    "copy float32 batches through shared memory, which threads do not",
    "tar, ": "as for files",
    "Parquet, ": "as for files; each worker process reads every row group",
    "rate and interval, 10,000": "calls of 12 ms, of which the thread's start and the join of the replicates are serial",
}


def reason(work: str) -> str:
    """The sentence for a row."""
    return next((told for begin, told in _REASONS.items() if work.startswith(begin)), "not looked into yet")
