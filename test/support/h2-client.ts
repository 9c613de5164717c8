import {
  connect,
  type ClientHttp2Session,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
  type OutgoingHttpHeaders,
} from 'node:http2';
import type { Target } from './raw-client.js';
import { within } from './wait.js';

export interface H2Response {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly trailers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** An HTTP/2 session over TLS (ALPN h2). Close it with `session.close()` or `destroy()`. */
export async function h2Connect(target: Target): Promise<ClientHttp2Session> {
  if (target.tls === undefined) throw new TypeError('HTTP/2 is spoken over TLS only');
  const host = target.tls.servername ?? target.host ?? '127.0.0.1';
  const session = connect(`https://${host}:${String(target.port)}`, {
    host: target.host ?? '127.0.0.1',
    ca: target.tls.ca,
    ...(target.localAddress === undefined ? {} : { localAddress: target.localAddress }),
    ...(target.tls.servername === undefined ? {} : { servername: target.tls.servername }),
    ...(target.tls.cert === undefined ? {} : { cert: target.tls.cert }),
    ...(target.tls.key === undefined ? {} : { key: target.tls.key }),
  });
  await within(
    new Promise<void>((resolve, reject) => {
      session.once('connect', () => {
        resolve();
      });
      session.once('error', reject);
    }),
    'an HTTP/2 session',
  );
  // Later errors show at the streams that they end.
  session.on('error', () => undefined);
  return session;
}

/** One request on a session; rejects where the stream is reset. */
export async function h2Request(
  session: ClientHttp2Session,
  headers: OutgoingHttpHeaders,
  body?: Buffer | string,
): Promise<H2Response> {
  const stream = session.request({ ':path': '/', ...headers }, { endStream: body === undefined });
  if (body !== undefined) stream.end(body);
  const answer = new Promise<H2Response>((resolve, reject) => {
    const pieces: Buffer[] = [];
    let head: IncomingHttpHeaders & IncomingHttpStatusHeader = {};
    let trailers: IncomingHttpHeaders = {};
    stream.on('response', (fields) => {
      head = fields;
    });
    stream.on('trailers', (fields: IncomingHttpHeaders) => {
      trailers = fields;
    });
    stream.on('data', (piece: Buffer) => pieces.push(piece));
    stream.on('error', reject);
    stream.on('close', () => {
      if (stream.rstCode !== 0) reject(new Error(`the stream was reset with code ${String(stream.rstCode)}`));
      resolve({ status: head[':status'] ?? 0, headers: head, trailers, body: Buffer.concat(pieces) });
    });
  });
  return await within(answer, `an answer to ${String(headers[':method'] ?? 'GET')} ${String(headers[':path'])}`);
}
