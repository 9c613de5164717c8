/** Records as a table (RFC 4180). */
import { escapeControls } from '../control-characters.js';
import type { AuditRecord } from './record.js';

const COLUMNS = [
  ...(['seq', 'time', 'event', 'result', 'reason', 'who', 'authenticator', 'roles', 'credential'] as const),
  ...(['client', 'peer', 'listener', 'route', 'action', 'resource', 'query', 'host', 'protocol', 'upgrade'] as const),
  ...(['request_id', 'upstream', 'status', 'bytes_in', 'bytes_out', 'duration_ms', 'count', 'detail'] as const),
  ...(['policy', 'v', 'chain', 'prev', 'hash', 'key', 'signature'] as const),
] satisfies readonly (keyof AuditRecord)[];

export const SHEET_HEAD = `${COLUMNS.join(',')}\r\n`;

export function sheetRow(record: AuditRecord): string {
  return `${COLUMNS.map((name) => cell(record[name])).join(',')}\r\n`;
}

function cell(value: AuditRecord[(typeof COLUMNS)[number]]): string {
  if (value === undefined) return '';
  if (typeof value === 'number') return String(value);
  if (value === true) return 'true';
  const text = typeof value === 'string' ? value : isList(value) ? value.join(' ') : JSON.stringify(value);
  return quoted(text);
}

/** A spreadsheet computes what begins so: requests could have it fetch and send (CWE-1236). */
const FORMULA = /^[=+\-@\t\r]/;

function quoted(text: string): string {
  const clean = `${FORMULA.test(text) ? "'" : ''}${escapeControls(text)}`;
  return /[",]/.test(clean) ? `"${clean.replaceAll('"', '""')}"` : clean;
}

function isList(value: object): value is readonly string[] {
  return Array.isArray(value);
}
