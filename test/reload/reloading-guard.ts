import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import type { Guard } from '../support/guard.js';
import { type PolicyValue, writePolicy } from '../support/policy-builder.js';
import type { LogLine } from '../support/process.js';
import type { Target } from '../support/raw-client.js';

export type Parsed = Record<string, Record<string, Record<string, PolicyValue>>>;

/** Writes the policy anew, with changes. @param name of another file to write it to */
export function rewrite(guard: Guard, change: (policy: Parsed) => void, name?: string): void {
  const policy = parse(readFileSync(guard.policyFile, 'utf8')) as Parsed;
  change(policy);
  writePolicy(guard.directory, policy, name);
}

const ENDS: ReadonlySet<unknown> = new Set(['policy.reloaded', 'policy.reload_failed']);

/** The lines that say what came of a reload. */
export const ends = (guard: Guard): LogLine[] => guard.process.logLines.filter((line) => ENDS.has(line['event.name']));

/** SIGHUP; resolves to the line that says what came of it. */
export async function hangUp(guard: Guard): Promise<LogLine> {
  const line = nextEnd(guard);
  guard.process.signal('SIGHUP');
  return await line;
}

/** The next line that says what came of a reload. */
export async function nextEnd(guard: Guard, timeoutMs?: number): Promise<LogLine> {
  const before = ends(guard).length;
  await guard.process.waitForLog((line) => ENDS.has(line['event.name']) && ends(guard).length > before, timeoutMs);
  const line = ends(guard)[before];
  if (line === undefined) throw new Error('no line says what came of the reload');
  return line;
}

/** Where the admin pages are. */
export async function adminOf(guard: Guard): Promise<Target> {
  const line = await guard.process.waitForLog((one) => one['event.name'] === 'admin.open');
  return { port: Number(new URL(String(line['url.full'])).port) };
}
