import { type Check, textCheck, tooLong } from './check.js';

/** PATH_MAX of Linux: nothing longer can be opened. */
const LONGEST = 4096;

/**
 * A path of a file, by its text alone: nobody looks at a disk, so a symbolic link that leads out of `root` is not seen.
 * @param root absolute, without a slash at the end but for `/`; null: only relative paths
 */
export function path(required: boolean, root: string | null): Check {
  const below = root === null ? null : root === '/' ? '/' : `${root}/`;
  return textCheck('path', required, (text) => {
    if (text === '') return 'empty';
    if (tooLong(text, LONGEST)) return 'too_long';
    if (text.includes('\0')) return 'null_byte';
    if (text.split('/').some((component) => component === '.' || component === '..')) return 'path_traversal';
    // Some readers take it for a slash.
    if (text.includes('\\')) return text.includes('.\\') ? 'path_traversal' : 'characters';
    if (!text.startsWith('/')) return null;
    return text === root || (below !== null && text.startsWith(below)) ? null : 'outside_root';
  });
}
