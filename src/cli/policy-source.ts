import { LARGEST_DOCUMENT, parseDocument } from '../policy/document.js';
import type { DocumentNode, PathPart } from '../policy/document.js';
import { type LoadOptions, type Loaded, loadPolicy, loadPolicyText } from '../policy/load.js';
import type { Position } from '../policy/policy.js';
import { readStateFile } from '../state/state-directory.js';
import { EXIT, Ending } from './exit-code.js';
import { readStdin } from './input.js';
import { type PolicyOptions, namedPolicy } from './policy-option.js';

export { type PolicyOptions, gatherNames, namedPolicy, takesPolicy } from './policy-option.js';

/** A policy as a verb reads it: the whole, its rules alone, or its text. */
export interface PolicySource {
  /** How messages call it. */
  readonly file: string;
  load(options?: Partial<Pick<LoadOptions, 'skipSecretFiles' | 'outside' | 'now'>>): Promise<Loaded>;
  /** Its text, where it came by another way than a file; null: it is read anew each time. */
  readonly given: string | null;
  /** Null when it cannot be read. */
  text(): Promise<string | null>;
}

export async function openPolicy(positional: string | undefined, options: PolicyOptions): Promise<PolicySource> {
  const file = namedPolicy(positional, options);
  if (file === null) {
    throw new Ending(
      EXIT.usage,
      'which policy? Name it, or say --policy FILE, or set GUARDBEE_POLICY (--help says more)',
    );
  }
  return file === '-' ? await stdinSource() : fileSource(file);
}

export function fileSource(file: string): PolicySource {
  return {
    file,
    given: null,
    load: (options = { skipSecretFiles: false }) => loadPolicy(file, { env: process.env, now: Date.now(), ...options }),
    text: async () => {
      try {
        const bytes = await readStateFile(file, LARGEST_DOCUMENT);
        return bytes === null ? null : bytes.toString('utf8');
      } catch {
        // `load` says why.
        return null;
      }
    },
  };
}

async function stdinSource(): Promise<PolicySource> {
  const file = 'stdin';
  const bytes = await readStdin(LARGEST_DOCUMENT);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Ending(EXIT.policy, `${file}: the text is not UTF-8`);
  }
  return {
    file,
    given: text,
    load: (options = { skipSecretFiles: false }) =>
      loadPolicyText(text, file, { env: process.env, now: Date.now(), ...options }),
    text: async () => text,
  };
}

/** Where a key stands in a policy's text; the nearest one above it where it does not. Null in a broken text. */
export function positionOf(text: string, path: readonly PathPart[]): Position | null {
  const { root } = parseDocument(text, '');
  if (root === null) return null;
  let node: DocumentNode = root;
  for (const part of path) {
    const next: DocumentNode | undefined =
      node.kind === 'map' && typeof part === 'string'
        ? node.entries.get(part)
        : node.kind === 'list' && typeof part === 'number'
          ? node.items[part]
          : undefined;
    if (next === undefined) break;
    node = next;
  }
  return node.keyAt;
}
