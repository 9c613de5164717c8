/** Longest header of a frame: two bytes, eight of length, four of the mask (RFC 6455 §5.2). */
const LONGEST_HEADER = 14;

/**
 * Follows one direction of a WebSocket by its lengths alone, to know whether a frame could begin here. Whatever else is in
 * the frames concerns the two ends.
 */
export class FrameBoundary {
  readonly #header = Buffer.alloc(LONGEST_HEADER);
  #have = 0;
  /** Of the payload, still to come. Beyond 2^53 it is not exact, and no such frame comes to its end. */
  #left = 0;

  /** Nothing of a frame is missing: a control frame may be put here, also amid the pieces of a message (§5.4). */
  get between(): boolean {
    return this.#have === 0 && this.#left === 0;
  }

  passed(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#left > 0) {
        const skipped = Math.min(this.#left, chunk.length - at);
        this.#left -= skipped;
        at += skipped;
        continue;
      }
      this.#header[this.#have++] = chunk[at++] ?? 0;
      if (this.#have < 2 || this.#have < this.#headerLength()) continue;
      this.#left = this.#payloadLength();
      this.#have = 0;
    }
  }

  #headerLength(): number {
    const second = this.#header[1] ?? 0;
    const length = second & 0x7f;
    return 2 + (length === 126 ? 2 : length === 127 ? 8 : 0) + ((second & 0x80) === 0 ? 0 : 4);
  }

  #payloadLength(): number {
    const length = (this.#header[1] ?? 0) & 0x7f;
    if (length === 126) return this.#header.readUInt16BE(2);
    if (length === 127) return Number(this.#header.readBigUInt64BE(2));
    return length;
  }
}

/** A Close frame (§5.5.1). @param mask four bytes from a client to a server, null the other way (§5.1) */
export function closeFrame(code: number, mask: Buffer | null): Buffer {
  const payload = Buffer.alloc(2);
  payload.writeUInt16BE(code);
  if (mask === null) return Buffer.concat([Buffer.of(0x88, 0x02), payload]);
  for (let i = 0; i < payload.length; i += 1) payload[i] = (payload[i] ?? 0) ^ (mask[i] ?? 0);
  return Buffer.concat([Buffer.of(0x88, 0x82), mask, payload]);
}
