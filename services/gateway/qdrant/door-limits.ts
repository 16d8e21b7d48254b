/** Deadline of a call whose client gives none; and the longest that it may give, in milliseconds. */
export const defaultDeadlineMs = 60_000;
export const maxDeadlineMs = 3_600_000;
