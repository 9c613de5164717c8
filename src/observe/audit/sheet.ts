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

/**
 * A spreadsheet computes what begins so, also in the wide forms of East Asian keyboards: requests could have it fetch
 * and send (CWE-1236). Where the machine's language divides cells by `;`, what follows one begins a cell as well, and
 * the quotes of the cell around it do not count.
 */
const FORMULA = /(^|;"*)(?=[=+\-@\t\r＝＋－＠])/g;

function quoted(text: string): string {
  const clean = escapeControls(text.replace(FORMULA, "$1'"));
  return /[",]/.test(clean) ? `"${clean.replaceAll('"', '""')}"` : clean;
}

function isList(value: object): value is readonly string[] {
  return Array.isArray(value);
}
