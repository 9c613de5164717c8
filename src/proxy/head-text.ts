import { FIELD_VALUE } from '../http/fields.js';
import { isUuid } from '../http/request-id.js';

/** What follows a head: no body, a body, or, after a 101, another protocol (RFC 6455 §4.1). */
export type Following = 'nothing' | 'body' | 'upgrade';

/** Methods whose requests say that they have no body (RFC 9110 §8.6): some servers answer 411 otherwise. */
const EXPECT_BODY: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH', 'QUERY', 'PROPFIND', 'PROPPATCH']);

const CRLF = '\r\n';
const KEEP_ALIVE = `connection: keep-alive${CRLF}`;
const UPGRADE = `connection: upgrade${CRLF}upgrade: websocket${CRLF}`;

/** The head of a request to an upstream: all of it but the id, so that a request that comes again is written once. */
export class RequestHead {
  readonly method: string;
  /** Request target in origin form. */
  readonly target: string;
  /** Names and values in turn, Host first, without those that belong to the connection. */
  readonly fields: readonly string[];
  readonly following: Following;
  /** Bytes of the body, as the fields say; null where they say nothing, and a body is then sent in chunks. */
  readonly length: number | null;
  #text: string | null = null;

  constructor(method: string, target: string, fields: readonly string[], following: Following) {
    this.method = method;
    this.target = target;
    this.fields = fields;
    this.following = following;
    this.length = statedLength(fields);
  }

  /** @throws TypeError when a value could end its line; whoever made the fields should have seen to that */
  text(requestId: string): string {
    this.#text ??= this.#write();
    return `${this.#text}x-request-id: ${isUuid(requestId) ? requestId : sound(requestId)}${CRLF}${CRLF}`;
  }

  #write(): string {
    const { method, fields, following } = this;
    const parts = [`${method} ${this.target} HTTP/1.1${CRLF}`];
    for (let i = 0; i < fields.length; i += 2) {
      parts.push(fields[i] ?? '', ': ', sound(fields[i + 1] ?? ''), CRLF);
      // Host comes first (RFC 9112 §3.2), then what is between the two ends of the connection.
      if (i === 0) parts.push(following === 'upgrade' ? UPGRADE : KEEP_ALIVE);
    }
    if (following !== 'body') {
      if (EXPECT_BODY.has(method)) parts.push(`content-length: 0${CRLF}`);
    } else if (this.length === null) {
      parts.push(`transfer-encoding: chunked${CRLF}`);
    }
    // Put together with `+` it would stay a tree of its parts, and each request that it is written for would walk it.
    return parts.join('');
  }
}

function sound(value: string): string {
  if (!FIELD_VALUE.test(value)) throw new TypeError('a field value holds control characters');
  return value;
}

/** What `upstream-head` said of the body's length; null where that was nothing. */
function statedLength(fields: readonly string[]): number | null {
  // Names only: a client may well say `content-length` in a value.
  for (let i = 0; i < fields.length; i += 2) {
    if (fields[i] === 'content-length') return Number(fields[i + 1]);
  }
  return null;
}
