import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { WebSocket } from 'ws';
import { SENTENCE, startDemo, type Demo } from '../../src/demo/demo.js';
import { countResources, expectResources } from '../support/leak.js';
import { openWebSocket, RawConnection, request, requestBytes } from '../support/raw-client.js';

/** A demo that is closed when the test is done. */
async function demo(options: { tokenEveryMs?: number } = {}): Promise<Demo & AsyncDisposable> {
  const started = await startDemo({ host: '127.0.0.1', port: 0, tokenEveryMs: 1, ...options });
  return { ...started, [Symbol.asyncDispose]: () => started.close() };
}

describe('demo service', () => {
  test('a page that needs nothing from elsewhere, whose policy names its own script and style', async () => {
    await using service = await demo();
    const response = await request(service);
    assert.equal(response.status, 200);
    assert.equal(response.header('content-type'), 'text/html; charset=utf-8');
    const html = response.text();
    assert.doesNotMatch(html, /(?:src|href)="(?!data:,")/);
    assert.match(html, /<html lang="en">/);
    const policy = response.header('content-security-policy') ?? '';
    for (const tag of ['script', 'style']) {
      const text = new RegExp(`<${tag}>(.*?)</${tag}>`, 's').exec(html)?.[1] ?? '';
      const digest = createHash('sha256').update(text).digest('base64');
      assert.ok(policy.includes(`${tag}-src 'sha256-${digest}'`), tag);
    }
    // Every control has a name that a screen reader can say.
    for (const [, id] of html.matchAll(/<input id="([^"]+)"/g))
      assert.match(html, new RegExp(`<label for="${String(id)}">`));
    for (const [, attributes] of html.matchAll(/<output ([^>]*)>/g))
      assert.match(String(attributes), /aria-label="[^"]+"/);
  });

  test('says who it was told the caller is', async () => {
    await using service = await demo();
    const named = await request(service, {
      path: '/api/hello?x=1',
      method: 'POST',
      body: 'ignored',
      headers: [
        ['X-Auth-User', 'keeper'],
        ['X-Auth-Roles', 'operator, viewer'],
      ],
    });
    const { message, ...rest } = named.json() as Record<string, unknown>;
    assert.equal(typeof message, 'string');
    assert.deepEqual(rest, { method: 'POST', user: 'keeper', roles: ['operator', 'viewer'] });
    const nobody = (await request(service, { path: '/api/hello' })).json() as Record<string, unknown>;
    assert.deepEqual([nobody['user'], nobody['roles']], [null, []]);
  });

  test('streams a sentence token by token and says when it is done', async () => {
    await using service = await demo();
    const response = await request(service, { path: '/api/stream' });
    assert.equal(response.header('content-type'), 'text/event-stream');
    const events = response.text().split('\n\n').slice(0, -1);
    assert.equal(events.pop(), 'data: [DONE]');
    assert.equal(events.map((event) => event.replace('data: ', '')).join(''), SENTENCE);
    assert.ok(events.length > 10);
  });

  test('the first token comes at once, and a caller that leaves ends the stream', async () => {
    await using service = await demo({ tokenEveryMs: 600_000 });
    const before = countResources();
    const client = await RawConnection.connect(service);
    client.write(requestBytes(service, { path: '/api/stream' }));
    await client.readHead();
    assert.match(await client.readEvent(), /data: The/);
    client.reset();
    await expectResources(before);
    assert.match((await request(service, { path: '/metrics' })).text(), /^demo_open_streams 0$/m);
  });

  test('echoes websocket messages, text and binary', async () => {
    await using service = await demo();
    const socket = new WebSocket(`${service.url.replace('http', 'ws')}/ws`);
    const messages: [Buffer, boolean][] = [];
    const done = new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.on('message', (data: Buffer, binary) => {
        messages.push([data, binary]);
        if (messages.length === 2) resolve();
      });
    });
    socket.once('open', () => {
      socket.send('text');
      socket.send(Buffer.from([0, 1]));
    });
    await done;
    assert.deepEqual(messages, [
      [Buffer.from('text'), false],
      [Buffer.from([0, 1]), true],
    ]);
    socket.terminate();
  });

  test('there is no websocket elsewhere', async () => {
    await using service = await demo();
    const { response, connection } = await openWebSocket(service, { path: '/other' });
    assert.equal(response.status, 404);
    connection.close();
  });

  test('has a metrics page, whose labels callers cannot make up', async () => {
    await using service = await demo();
    await request(service, { path: '/health' });
    await request(service, { path: '/made"up' });
    const text = (await request(service, { path: '/metrics' })).text();
    assert.match(text, /^demo_requests_total\{path="\/health"\} 1$/m);
    assert.match(text, /^demo_requests_total\{path="other"\} 1$/m);
    assert.doesNotMatch(text, /made/);
  });

  const OTHERS = [
    ['GET', '/health', 200],
    ['HEAD', '/', 200],
    ['HEAD', '/api/stream', 200],
    ['GET', '/nothing', 404],
    ['POST', '/', 405],
    ['DELETE', '/api/stream', 405],
  ] as const;
  for (const [method, path, status] of OTHERS) {
    test(`${method} ${path} is answered ${String(status)}`, async () => {
      await using service = await demo();
      assert.equal((await request(service, { method, path })).status, status);
    });
  }

  test('a port in use is an error, and closing ends open streams', async () => {
    const first = await startDemo({ host: '127.0.0.1', port: 0, tokenEveryMs: 600_000 });
    await assert.rejects(startDemo({ host: '127.0.0.1', port: first.port }), { code: 'EADDRINUSE' });
    using client = await RawConnection.connect(first);
    client.write(requestBytes(first, { path: '/api/stream' }));
    await client.readHead();
    const { socket } = await openWebSocket(first, { path: '/ws' });
    await first.close();
    await client.waitForEnd();
    await socket?.connection.waitForEnd();
  });
});
