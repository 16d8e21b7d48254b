/** Best points by text whose vectors stand for that of the text in a hybrid search, where there is none. */
export const feedbackPoints = 3;
