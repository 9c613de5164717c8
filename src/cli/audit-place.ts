/** Which trail a verb of `guardbee audit` is about, and what it is believed by. */
import type { KeyObject } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { userInfo } from 'node:os';
import * as path from 'node:path';
import type { Command } from 'commander';
import type { SeenHead } from '../observe/audit/chain-check.js';
import {
  type TrustedKeys,
  publicKeyBeside,
  readOwnHead,
  readOwnKey,
  readPublicKey,
} from '../observe/audit/public-key.js';
import type { Trail } from '../observe/audit/verify.js';
import { AUDIT_EVENTS, type AuditEvent } from '../observe/audit/events.js';
import { exitCodeFor, renderIssues } from '../policy/render-issues.js';
import type { Policy } from '../policy/policy.js';
import type { AuditAccess } from '../server/audit-access.js';
import { askControl } from '../server/control.js';
import { StateError } from '../server/state.js';
import { EXIT, Ending } from './exit-code.js';
import { gatherNames } from './policy-option.js';
import { openPolicy } from './policy-source.js';
import type { Voice } from './voice.js';

export interface PlaceOptions {
  readonly dir?: string;
  readonly policy?: string;
  readonly config?: string;
}

export interface KeyOptions {
  readonly key?: readonly string[];
  /** Commander's word for `--no-signatures`. */
  readonly signatures: boolean;
}

export interface Place {
  readonly trail: Trail;
  /** Null: only the files are known. */
  readonly policy: Policy | null;
}

export function takesPlace(command: Command): Command {
  return command
    .option('-p, --policy <file>', 'the policy whose trail it is (also: GUARDBEE_POLICY)')
    .option('-c, --config <file>', 'the same')
    .option('--dir <dir>', 'the directory of the segments, without a policy');
}

export function takesKey(command: Command): Command {
  return command
    .option(
      '--key <file>',
      'the public key (audit.pub.pem) that checkpoints must be signed with, from a place you trust',
      (value: string, before: readonly string[] | undefined) => [...(before ?? []), value],
    )
    .option('--no-signatures', 'look at the chain alone: whoever can write the files can have made all of it');
}

export function takesEvents(command: Command): Command {
  return command.option('--event <name...>', 'only these events', gatherNames);
}

/** Null: all. */
export function readEvents(names: readonly string[] | undefined): ReadonlySet<AuditEvent> | null {
  if (names === undefined) return null;
  const known = new Map<string, AuditEvent>(AUDIT_EVENTS.map((name) => [name, name]));
  return new Set(
    names.map((name) => {
      const event = known.get(name);
      if (event === undefined) throw new Ending(EXIT.usage, `--event: there are ${AUDIT_EVENTS.join(', ')}`);
      return event;
    }),
  );
}

export async function placeOf(files: readonly string[], options: PlaceOptions, voice: Voice): Promise<Place> {
  const named = options.policy !== undefined || options.config !== undefined;
  const ways = [
    files.length > 0 ? 'FILE' : null,
    options.dir === undefined ? null : '--dir',
    named ? '--policy' : null,
  ];
  const said = ways.filter((way) => way !== null);
  if (said.length > 1) throw new Ending(EXIT.usage, `one trail at a time: found ${said.join(' and ')}`);
  const [only] = files;
  if (files.length === 1 && only !== undefined && (await isDirectory(only))) {
    return { trail: { kind: 'dir', dir: path.resolve(only) }, policy: null };
  }
  if (files.length > 0) return { trail: { kind: 'files', files }, policy: null };
  if (options.dir !== undefined) {
    if (options.dir === '') throw new Ending(EXIT.usage, '--dir: the name of the directory is empty');
    return { trail: { kind: 'dir', dir: path.resolve(options.dir) }, policy: null };
  }
  const source = await openPolicy(undefined, options);
  const loaded = await source.load({ skipSecretFiles: true });
  if (!loaded.ok) {
    voice.err(renderIssues(loaded.issues));
    throw new Ending(exitCodeFor(loaded.issues));
  }
  const { policy } = loaded;
  if (policy.audit === null) throw new Ending(EXIT.policy, `${source.file} has no audit trail (audit: { dir: PATH })`);
  return { trail: { kind: 'dir', dir: policy.audit.dir }, policy };
}

async function isDirectory(name: string): Promise<boolean> {
  // What is wrong with it is said where it is read.
  return await stat(name).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/** What the checkpoints must be signed with. Null: nobody asks. */
export async function keysOf(place: Place, options: KeyOptions, voice: Voice): Promise<TrustedKeys | null> {
  if (!options.signatures) {
    if (options.key === undefined) return null;
    throw new Ending(EXIT.usage, 'either --key or --no-signatures');
  }
  if (options.key !== undefined) {
    const keys = new Map<string, KeyObject>();
    for (const file of options.key) {
      const read = await readPublicKey(file);
      if (read === null) throw new Ending(EXIT.policy, `there is no key ${file}`);
      for (const [id, key] of read) keys.set(id, key);
    }
    return keys;
  }
  const own = place.policy === null ? null : await readOwnKey(place.policy.stateDir).catch(() => null);
  if (own !== null) return own;
  const dir = place.trail.kind === 'dir' ? place.trail.dir : path.dirname(place.trail.files[0] ?? '');
  const file = publicKeyBeside(dir);
  const beside = await readPublicKey(file);
  if (beside === null) {
    throw new Ending(
      EXIT.policy,
      'which key signs it? Say --key FILE (its audit.pub.pem), or --no-signatures to look at the chain alone',
    );
  }
  voice.err(
    `guardbee: the key is ${file}: whoever can write there can have put it there; --key takes one that is kept elsewhere`,
  );
  return beside;
}

/** What guardbee itself remembers of its chain. */
export async function ownHeads({ policy }: Place): Promise<SeenHead[]> {
  if (policy === null) return [];
  const head = await readOwnHead(policy.stateDir);
  return head === null ? [] : [head];
}

/** The record must be on the disk before the answer; a guardbee that hangs is no reason not to read. */
const NOTING_MS = 6000;

/** That somebody reads the trail stands in the trail. Says on stderr why it does not. */
export async function noteAccess(how: AuditAccess['how'], place: Place, voice: Voice): Promise<void> {
  const { policy, trail } = place;
  if (policy === null) {
    if (how === 'export' && trail.kind === 'dir') {
      voice.err('guardbee: this export is not noted in the trail: with --policy a running guardbee is told of it');
    }
    return;
  }
  let answer: Awaited<ReturnType<typeof askControl>>;
  try {
    answer = await askControl(policy.stateDir, { cmd: 'audit_accessed', how, by: whoAmI() }, NOTING_MS);
  } catch (error) {
    if (!(error instanceof StateError)) throw error;
    answer = { ok: false, error: error.message };
  }
  if (answer === null) {
    if (how === 'export') voice.err('guardbee: this export is not noted in the trail: no guardbee runs that writes it');
  } else if (!answer.ok) {
    voice.err(`guardbee: it is not noted in the trail that it is read: ${answer.error}`);
  }
}

/** A claim: the socket is its owner's and root's alone, and that is all that is known of who asks. */
function whoAmI(): string {
  try {
    const { username, uid } = userInfo();
    return /^[A-Za-z0-9._-]{1,64}$/.test(username) ? username : `uid ${uid}`;
  } catch {
    return `uid ${process.getuid?.() ?? 'unknown'}`;
  }
}

/** What cannot be read ends a verb with 1. */
export async function reading<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof StateError) throw new Ending(EXIT.policy, error.message);
    throw error;
  }
}
