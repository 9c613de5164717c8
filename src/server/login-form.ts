import type { Readable } from 'node:stream';
import type { DenialReason } from '../denial.js';
import type { Message } from '../http/message.js';

/** A user name and a password, or a token; and where to go on. */
const MOST_BYTES = 8 * 1024;
/** For the whole of it: nobody types while the form is on its way. */
const MOST_MS = 10_000;

export type FormResult =
  | { readonly ok: true; readonly fields: ReadonlyMap<string, string> }
  /** Null: the client has gone. */
  | { readonly ok: false; readonly reason: DenialReason | null };

const no = (reason: DenialReason | null): FormResult => ({ ok: false, reason });

const URLENCODED = /^application\/x-www-form-urlencoded[ \t]*(?:;[ \t]*charset="?utf-8"?[ \t]*)?$/i;

/** What can be said of the head alone; null: read on. */
export function judgeFormHead(message: Message): DenialReason | null {
  if (message.contentType === null || !URLENCODED.test(message.contentType)) return 'login_type_unsupported';
  if (message.framing.kind === 'length' && message.framing.bytes > MOST_BYTES) return 'login_too_large';
  return null;
}

/**
 * Reads a form; never rejects.
 *
 * @param known names a form may have, each once
 * @param mostMs what the policy allows a body; a form gets no more than 10 s of it
 */
export function readForm(body: Readable, known: ReadonlySet<string>, mostMs: number): Promise<FormResult> {
  return new Promise((resolve) => {
    const pieces: Buffer[] = [];
    let length = 0;
    const settle = (result: FormResult): void => {
      clearTimeout(timer);
      body.off('data', onData);
      body.off('end', onEnd);
      body.off('close', onGone);
      for (const piece of pieces) piece.fill(0);
      resolve(result);
    };
    const onData = (chunk: Buffer): void => {
      length += chunk.length;
      if (length > MOST_BYTES) {
        body.pause();
        settle(no('login_too_large'));
        return;
      }
      pieces.push(Buffer.from(chunk));
    };
    const onEnd = (): void => {
      const whole = Buffer.concat(pieces);
      const fields = parseForm(whole, known);
      whole.fill(0);
      settle(fields === null ? no('login_malformed') : { ok: true, fields });
    };
    const onGone = (): void => {
      settle(no(null));
    };
    const timer = setTimeout(
      () => {
        body.pause();
        settle(no('body_timeout'));
      },
      Math.min(mostMs, MOST_MS),
    );
    body.on('data', onData);
    body.once('end', onEnd);
    body.once('close', onGone);
    // The answer's own listener hears of it too; an unheard `error` would end the process.
    body.on('error', onGone);
    body.resume();
  });
}

/**
 * The application/x-www-form-urlencoded parser of WHATWG URL, without its leniency: escapes must be whole, bytes must be
 * UTF-8, names must be known and stand once. Null: it is not such a form.
 */
export function parseForm(body: Uint8Array, known: ReadonlySet<string>): ReadonlyMap<string, string> | null {
  const fields = new Map<string, string>();
  const written = Buffer.from(body).toString('latin1');
  if (written === '') return fields;
  for (const pair of written.split('&')) {
    const equals = pair.indexOf('=');
    if (equals === -1) return null;
    const name = decode(pair.slice(0, equals));
    const value = decode(pair.slice(equals + 1));
    if (name === null || value === null || !known.has(name) || fields.has(name)) return null;
    fields.set(name, value);
  }
  return fields;
}

function decode(written: string): string | null {
  if (!/^(?:[!-$&-~\x80-\xff]|%[0-9A-Fa-f]{2})*$/.test(written)) return null;
  const bytes = Buffer.from(
    written
      .replaceAll('+', ' ')
      .replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  );
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}
