/** A name of a parameter or a cookie that can be shown. */
export const TAME_NAME = /^[A-Za-z0-9_.\-[\]]{1,40}$/;
