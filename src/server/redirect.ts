import { randomUUID } from 'node:crypto';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { readMessage } from '../http/message.js';
import type { RedirectListener } from '../policy/policy.js';
import type { Surroundings } from './handle.js';
import { type Http1Hooks, bareHttp1Server, refuseUnreadable } from './http1.js';
import { denialAnswer } from './respond.js';

/**
 * Answers every readable request with a 308 to the same target over HTTPS, at a name of the policy. The name never
 * comes from the request, so this is no open redirect; nothing is ever proxied. But for the one path that an ACME
 * authority asks for while it looks whether a name is ours (RFC 8555 §8.3).
 */
export function redirectServer(listener: RedirectListener, around: Surroundings, hooks: Http1Hooks): Server {
  const server = bareHttp1Server(listener.limits, listener.timeouts);
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    const { httpVersion } = request;
    const read = readMessage(
      {
        protocol: httpVersion === '1.1' || httpVersion === '1.0' ? httpVersion : 'unknown',
        scheme: 'http',
        method: request.method ?? '',
        target: request.url ?? '',
        authority: null,
        fields: request.rawHeaders,
        moreFollows: false,
      },
      listener.limits,
    );
    response.on('error', () => undefined);
    if (!read.ok || around.draining()) {
      const requestId = randomUUID();
      const reason = read.ok ? 'draining' : read.reason;
      hooks.unreadable(hooks.peerOf(request.socket), 'http', reason, requestId, () => {
        const refusal = denialAnswer(reason, requestId);
        response.writeHead(refusal.status, [...refusal.fields, 'connection', 'close']);
        response.end(refusal.body);
      });
      return;
    }
    const asked = read.message.authority.name;
    const proof = around.http01?.(asked, read.message.target.raw) ?? null;
    if (proof !== null && request.method === 'GET') {
      response.writeHead(200, {
        'content-type': 'application/octet-stream',
        'content-length': Buffer.byteLength(proof),
        connection: 'close',
      });
      response.end(proof);
      return;
    }
    const name = listener.hosts.find((host) => host === asked) ?? listener.hosts[0] ?? 'localhost';
    const host = name.includes(':') ? `[${name}]` : name;
    const port = listener.httpsPort === 443 ? '' : `:${String(listener.httpsPort)}`;
    response.writeHead(308, {
      location: `https://${host}${port}${read.message.target.raw}`,
      'content-length': 0,
      connection: 'close',
    });
    response.end();
  };
  server.on('request', answer);
  server.on('checkContinue', answer);
  server.on('checkExpectation', answer);
  server.on('connect', (_request: IncomingMessage, socket) => {
    socket.destroy();
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    refuseUnreadable(error, socket, false, 'http', hooks);
  });
  return server;
}
