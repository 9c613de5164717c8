import { RawConnection, type Target } from '../support/raw-client.js';

/** Names and values in the order they are sent. */
export type WireFields = readonly (readonly [name: string, value: string])[];

/** What came back for one stream: an answer, a reset of the stream, or the end of the connection. */
export type H2Outcome =
  | { readonly kind: 'answer'; readonly status: number }
  | { readonly kind: 'reset'; readonly code: number }
  | { readonly kind: 'goaway'; readonly code: number }
  | { readonly kind: 'closed' };

export const FRAME = Object.freeze({
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
});
export const END_STREAM = 0x1;
export const ACK = 0x1;
export const END_HEADERS = 0x4;

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** One frame (RFC 9113 §4.1). */
export function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A field block in which every field is literal, never indexed, and written as it is (RFC 7541 §6.2.3). */
export function fieldBlock(fields: WireFields): Buffer {
  return Buffer.concat(fields.map(([name, value]) => Buffer.concat([Buffer.from([0x10]), text(name), text(value)])));
}

/** RFC 7541 §5.1, §5.2: a string without Huffman coding. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) length.push((rest % 128) | 128);
  length.push(rest);
  return Buffer.concat([Buffer.from(length), bytes]);
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** One setting (RFC 9113 §6.5.1). */
export function setting(id: number, value: number): Buffer {
  return Buffer.concat([Buffer.from([id >> 8, id & 0xff]), uint32(value)]);
}

/**
 * HTTP/2 as frames on a TLS socket, for what no client library would send. Nothing is checked, counted or answered by
 * itself, SETTINGS and PING included.
 */
export class H2Wire implements Disposable {
  readonly connection: RawConnection;

  private constructor(connection: RawConnection) {
    this.connection = connection;
  }

  static async connect(target: Target): Promise<H2Wire> {
    if (target.tls === undefined) throw new TypeError('HTTP/2 is spoken over TLS only');
    const connection = await RawConnection.connect({ ...target, tls: { ...target.tls, alpn: ['h2'] } });
    // A table of size 0: answers then need no state to be read.
    connection.write(Buffer.concat([Buffer.from(PREFACE), frame(FRAME.SETTINGS, 0, 0, setting(1, 0))]));
    return new H2Wire(connection);
  }

  [Symbol.dispose](): void {
    this.connection.close();
  }

  send(...frames: readonly Buffer[]): boolean {
    return this.connection.write(Buffer.concat(frames));
  }

  headers(stream: number, fields: WireFields, options: { endStream: boolean }): void {
    this.send(headersFrame(stream, fields, options));
  }

  data(stream: number, body: string, options: { endStream: boolean }): void {
    this.send(frame(FRAME.DATA, options.endStream ? END_STREAM : 0, stream, Buffer.from(body, 'latin1')));
  }

  async next(timeoutMs?: number): Promise<Frame> {
    const head = await this.connection.readBytes(9, timeoutMs);
    const payload = await this.connection.readBytes(head.readUIntBE(0, 3), timeoutMs);
    return { type: head.readUInt8(3), flags: head.readUInt8(4), stream: head.readUInt32BE(5) & 0x7fffffff, payload };
  }

  /** Reads on until it is decided what becomes of the stream. */
  async outcome(stream: number, timeoutMs?: number): Promise<H2Outcome> {
    for (;;) {
      let got: Frame;
      try {
        got = await this.next(timeoutMs);
      } catch (error) {
        if (this.connection.ended !== null) return { kind: 'closed' };
        throw error;
      }
      if (got.type === FRAME.GOAWAY) return { kind: 'goaway', code: got.payload.readUInt32BE(4) };
      if (got.stream !== stream) continue;
      if (got.type === FRAME.RST_STREAM) return { kind: 'reset', code: got.payload.readUInt32BE(0) };
      if (got.type === FRAME.HEADERS) {
        const status = statusOf(got.payload);
        if (status >= 200) return { kind: 'answer', status };
      }
    }
  }
}

export function headersFrame(stream: number, fields: WireFields, options: { endStream: boolean }): Buffer {
  return frame(FRAME.HEADERS, END_HEADERS | (options.endStream ? END_STREAM : 0), stream, fieldBlock(fields));
}

/** RFC 7541 Appendix A: the statuses that have an index of their own. */
const INDEXED = new Map([
  [8, 200],
  [9, 204],
  [10, 206],
  [11, 304],
  [12, 400],
  [13, 404],
  [14, 500],
]);

/** RFC 7541 Appendix B: digits. */
const HUFFMAN_DIGITS = new Map([
  ['00000', '0'],
  ['00001', '1'],
  ['00010', '2'],
  ['011001', '3'],
  ['011010', '4'],
  ['011011', '5'],
  ['011100', '6'],
  ['011101', '7'],
  ['011110', '8'],
  ['011111', '9'],
]);

/** `:status` is the first field of an answer (RFC 9113 §8.3). Whatever follows it is not read. */
function statusOf(block: Buffer): number {
  let at = 0;
  // Dynamic table size update (RFC 7541 §6.3).
  while (((block[at] ?? 0) & 0xe0) === 0x20) at += 1;
  const first = block[at] ?? 0;
  if ((first & 0x80) !== 0) return INDEXED.get(first & 0x7f) ?? 0;
  const length = block[at + 1] ?? 0;
  const value = block.subarray(at + 2, at + 2 + (length & 0x7f));
  return Number((length & 0x80) === 0 ? value.toString('latin1') : huffmanDigits(value));
}

function huffmanDigits(bytes: Buffer): string {
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  let digits = '';
  for (let at = 0; digits.length < 3;) {
    const size = HUFFMAN_DIGITS.has(bits.slice(at, at + 5)) ? 5 : 6;
    digits += HUFFMAN_DIGITS.get(bits.slice(at, at + size)) ?? '?';
    at += size;
  }
  return digits;
}
