/** Trails as guardbee leaves them, built record by record, so that a test can also build what guardbee never would. */
import { type KeyObject, createHash, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { VerifyOptions } from '../../src/observe/audit/verify.js';
import { type Entry, GENESIS, type Seal, writeRecord } from '../../src/observe/audit/record.js';
import { PUBLIC_KEY_FILE, keyId } from '../../src/observe/audit/signing-key.js';
import { segmentName } from '../../src/observe/audit/segments.js';

export class TestKey implements Seal {
  readonly #private: KeyObject;
  readonly public: KeyObject;
  readonly key: string;

  /** @param claimed id of another key, which this one claims to be */
  constructor(claimed?: string) {
    this.#private = generateKeyPairSync('ed25519').privateKey;
    this.public = createPublicKey(this.#private);
    this.key = claimed ?? keyId(this.public);
  }

  sign(text: string): string {
    return sign(null, Buffer.from(text, 'utf8'), this.#private).toString('base64');
  }

  get pem(): string {
    return this.public.export({ type: 'spki', format: 'pem' }).toString();
  }

  /** What a verification with this key alone is told. */
  get trusted(): VerifyOptions {
    return { keys: new Map([[this.key, this.public]]) };
  }
}

export const DENIED: Entry = {
  event: 'authorization_denied',
  result: 'denied',
  reason: 'permission_missing',
  who: 'keeper',
  authenticator: 'keys',
  roles: ['viewer'],
  credential: 'a3f2c1',
  client: '192.0.2.7',
  listener: 'main',
  route: 'shutdown',
  action: 'POST',
  resource: '/v1/shutdown',
  host: 'queen.lab:7833',
  protocol: 'HTTP/1.1',
  request_id: 'f2a1',
  status: 403,
};

export class TrailBuilder {
  readonly key: TestKey;
  readonly chain: string;
  /** Each file with its lines, none of them with its end. */
  readonly segments: { readonly name: string; readonly lines: string[] }[] = [];
  seq = 0;
  hash = GENESIS;
  #timeMs = Date.UTC(2026, 10, 20, 12);

  constructor(key = new TestKey(), chain = 'c4a1'.repeat(8)) {
    this.key = key;
    this.chain = chain;
    this.#open();
  }

  get head(): string {
    return `${this.seq}:${this.hash}`;
  }

  add(entry: Entry, sealed = false): this {
    this.#timeMs += 1234;
    return this.#write(entry, sealed);
  }

  /** `count` records like those of refusals. */
  denials(count: number): this {
    for (let number = 0; number < count; number += 1) this.add({ ...DENIED, request_id: `r${this.seq}` });
    return this;
  }

  checkpoint(): this {
    return this.add({ event: 'checkpoint', result: 'noted' }, true);
  }

  /** Seals the segment and opens another, of the day after. */
  rotate(): this {
    this.add({ event: 'segment_sealed', result: 'noted' }, true);
    this.#timeMs += 86_400_000;
    this.#open();
    return this;
  }

  clock(ms: number): this {
    this.#timeMs += ms;
    return this;
  }

  /** @returns the directory */
  write(dir: string): string {
    mkdirSync(dir, { recursive: true });
    for (const [name, bytes] of this.files()) writeFileSync(join(dir, name), bytes);
    writeFileSync(join(dir, PUBLIC_KEY_FILE), this.key.pem);
    return dir;
  }

  files(): Map<string, Buffer> {
    return new Map(
      this.segments.map(({ name, lines }) => [name, Buffer.from(lines.map((line) => `${line}\n`).join(''), 'utf8')]),
    );
  }

  #open(): void {
    const name = segmentName(this.seq + 1, new Date(this.#timeMs).toISOString().slice(0, 10));
    const before = this.segments.at(-1)?.name;
    this.segments.push({ name, lines: [] });
    this.#write(
      {
        event: 'segment_opened',
        result: 'noted',
        detail: { segment: name, ...(before === undefined ? {} : { before }) },
      },
      false,
    );
  }

  #write(entry: Entry, sealed: boolean): this {
    this.seq += 1;
    const place = {
      chain: this.chain,
      seq: this.seq,
      time: new Date(this.#timeMs).toISOString(),
      prev: this.hash,
      policy: createHash('sha256').update('policy').digest('hex').slice(0, 12),
    };
    const { line, hash } = writeRecord(entry, place, sealed ? this.key : null);
    this.hash = hash;
    this.segments.at(-1)?.lines.push(line);
    return this;
  }
}
