import { readFileSync } from 'node:fs';
import { type Log, createLog } from '../../src/observe/log.js';
import type { Redactor } from '../../src/observe/redact.js';
import type { LogSettings } from '../../src/policy/policy.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

/** Writes with a log into a file, closes it, and reads what is there. */
export async function linesOf(
  redactor: Redactor,
  write: (log: Log) => void,
  settings: Partial<LogSettings> = {},
): Promise<string[]> {
  using directory = new TemporaryDirectory();
  const file = directory.file('log');
  const log = createLog({ level: 'trace', format: 'json', ...settings, file }, redactor);
  write(log);
  await log.close();
  const text = readFileSync(file, 'utf8');
  return text === '' ? [] : text.replace(/\n$/, '').split('\n');
}

export function parsed(line: string | undefined): Record<string, unknown> {
  return JSON.parse(line ?? '') as Record<string, unknown>;
}
