import { createHash, randomBytes } from 'node:crypto';

/** RFC 6455 §4.2.2. */
export function websocketAccept(key: string): string {
  return createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
}

export const OPCODES = Object.freeze({ continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 });

export type Opcode = keyof typeof OPCODES;

export interface Frame {
  readonly opcode: Opcode;
  readonly final: boolean;
  readonly masked: boolean;
  /** Unmasked. */
  readonly payload: Buffer;
}

export function encodeFrame(
  opcode: Opcode,
  payload: Buffer | string,
  options: { masked: boolean; final?: boolean },
): Buffer {
  const data = typeof payload === 'string' ? Buffer.from(payload) : payload;
  const first = (options.final === false ? 0 : 0x80) | OPCODES[opcode];
  const maskBit = options.masked ? 0x80 : 0;
  let head: Buffer;
  if (data.length < 126) {
    head = Buffer.from([first, maskBit | data.length]);
  } else if (data.length < 0x10000) {
    head = Buffer.from([first, maskBit | 126, data.length >> 8, data.length & 0xff]);
  } else {
    head = Buffer.alloc(10);
    head[0] = first;
    head[1] = maskBit | 127;
    head.writeBigUInt64BE(BigInt(data.length), 2);
  }
  if (!options.masked) return Buffer.concat([head, data]);
  const mask = randomBytes(4);
  return Buffer.concat([head, mask, xor(data, mask)]);
}

function xor(data: Buffer, mask: Buffer): Buffer {
  const out = Buffer.from(data);
  for (let index = 0; index < out.length; index += 1) out[index] = (out[index] ?? 0) ^ (mask[index % 4] ?? 0);
  return out;
}

/** Takes frames out of a byte stream. */
export class FrameReader {
  #bytes: Buffer = Buffer.alloc(0);

  /** The frames that are complete after these bytes. */
  read(bytes: Buffer): Frame[] {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    const frames: Frame[] = [];
    for (let frame = this.#next(); frame !== null; frame = this.#next()) frames.push(frame);
    return frames;
  }

  #next(): Frame | null {
    const bytes = this.#bytes;
    const [first, second] = bytes;
    if (first === undefined || second === undefined) return null;
    const opcode = (Object.keys(OPCODES) as Opcode[]).find((name) => OPCODES[name] === (first & 0x0f));
    if (opcode === undefined) throw new Error(`unknown websocket opcode ${String(first & 0x0f)}`);
    let length = second & 0x7f;
    let at = 2;
    if (length === 126) {
      if (bytes.length < 4) return null;
      length = bytes.readUInt16BE(2);
      at = 4;
    } else if (length === 127) {
      if (bytes.length < 10) return null;
      length = Number(bytes.readBigUInt64BE(2));
      at = 10;
    }
    const masked = (second & 0x80) !== 0;
    const mask = masked ? bytes.subarray(at, at + 4) : null;
    if (mask !== null) at += 4;
    if (bytes.length < at + length) return null;
    const payload = bytes.subarray(at, at + length);
    this.#bytes = bytes.subarray(at + length);
    return {
      opcode,
      final: (first & 0x80) !== 0,
      masked,
      payload: mask === null ? Buffer.from(payload) : xor(payload, mask),
    };
  }
}
