"""What stops a goal that is not reached: by the row's work, one sentence. Rows that reach their goal need none."""

REASONS: dict[str, str] = {}
