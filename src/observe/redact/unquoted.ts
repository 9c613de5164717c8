/** A value without quotes, from `lastIndex` on. */
// eslint-disable-next-line no-control-regex -- ESC begins a colour
export const UNQUOTED = /[^\s"<>&\x1b]+/y;
