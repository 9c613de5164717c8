/** `the key: the file is missing` is a sentence, not a value, and so is `token: EACCES`. */
export const SENTENCE_WORDS: ReadonlySet<string> = new Set(
  'a an and are at been can cannot could does expected file for found from had has have in is it its may missing must needs no not of on only or should that the there this to too unknown unreadable was were what which will with'.split(
    ' ',
  ),
);
export const ERRNO = /^E[A-Z0-9]{3,15}:?$/;
