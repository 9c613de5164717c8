import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** This file runs from dist/test/secret. */
const SOURCE = fileURLToPath(new URL('../../../src/', import.meta.url));

export interface SourceFile {
  /** Below src/. */
  readonly path: string;
  /** Without comments. */
  readonly code: string;
}

/** Every file of the program, in order. */
export function sourceFiles(): readonly SourceFile[] {
  return readdirSync(SOURCE, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .sort()
    .map((path) => ({ path, code: withoutComments(readFileSync(join(SOURCE, path), 'utf8')) }));
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1');
}
