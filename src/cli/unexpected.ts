import { Redactor } from '../observe/redact.js';

const redactor = new Redactor({ knowsDigest: () => false });

/** One line about an error that nobody saw coming. */
export function unexpected(error: unknown): string {
  const fields = redactor.redactError(error);
  const type = fields['error.type'];
  const message = fields['error.message'];
  // Errors of the system say their code themselves.
  const what = message.startsWith(type) ? message : `${type}: ${message}`;
  return `guardbee: unexpected error: ${what}`;
}
