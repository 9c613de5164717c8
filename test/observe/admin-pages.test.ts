import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { type Admin, type AdminSettings, createAdmin } from '../../src/observe/admin.js';
import type { ReadinessReport } from '../../src/observe/readiness.js';
import { constant } from '../../src/observe/redact.js';
import { within } from '../support/wait.js';
import { redactorThatKnows } from './known-tokens.js';

const redactor = redactorThatKnows();

class Running implements AsyncDisposable {
  readonly admin: Admin;
  readonly port: number;
  readonly errors: string[];
  private constructor(admin: Admin, port: number, errors: string[]) {
    this.admin = admin;
    this.port = port;
    this.errors = errors;
  }

  static async start(change: Partial<AdminSettings> = {}): Promise<Running> {
    const errors: string[] = [];
    const admin = createAdmin({
      bind: { host: '127.0.0.1', port: 0 },
      metrics: { contentType: 'text/plain; version=0.0.4; charset=utf-8', text: async () => 'up 1\n' },
      readiness: () => ({ checks: [] }),
      log: {
        error: (event, msg, fields) => errors.push(`${event} ${msg} ${String(fields?.['error.message'])}`),
        errorFields: (error) => redactor.redactError(error),
      },
      ...change,
    });
    const { port } = await admin.listen();
    return new Running(admin, port, errors);
  }

  /** Sends bytes; returns all that comes back until the other side ends. */
  async send(text: string): Promise<string> {
    const socket = connect(this.port, '127.0.0.1');
    socket.on('error', () => undefined);
    let got = '';
    socket.setEncoding('utf8').on('data', (piece: string) => (got += piece));
    socket.write(text);
    await within(once(socket, 'close'), 'the connection to close');
    return got;
  }

  async ask(target: string, fields: readonly string[] = [], method = 'GET'): Promise<Answer> {
    const host = fields.some((field) => /^host:/i.test(field)) ? [] : [`Host: 127.0.0.1:${this.port}`];
    const lines = [`${method} ${target} HTTP/1.1`, ...host, ...fields, 'Connection: close', '', ''];
    return read(await this.send(lines.join('\r\n')));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.admin.close();
  }
}

interface Answer {
  readonly status: number;
  readonly fields: ReadonlyMap<string, string>;
  readonly body: string;
}

function read(text: string): Answer {
  const end = text.indexOf('\r\n\r\n');
  const [first = '', ...rest] = text.slice(0, end).split('\r\n');
  const fields = new Map(
    rest.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
  );
  return { status: Number(first.split(' ')[1]), fields, body: text.slice(end + 4) };
}

describe('the pages', () => {
  test('/healthz says that the process is alive', async () => {
    await using running = await Running.start();
    const answer = await running.ask('/healthz');
    assert.equal(answer.status, 200);
    assert.deepEqual(JSON.parse(answer.body), { status: 'ok' });
    assert.equal(answer.fields.get('x-content-type-options'), 'nosniff');
    assert.equal(answer.fields.get('cache-control'), 'no-store');
    assert.equal(answer.fields.get('server'), undefined);
  });

  test('/readyz names each check, and is 503 as soon as one failed', async () => {
    let report: ReadinessReport = {
      checks: [
        { name: 'policy', status: 'ok', detail: constant('version abcdef123456') },
        { name: 'upstream_exposure', status: 'unknown', detail: constant('a network namespace hides it') },
      ],
    };
    await using running = await Running.start({ readiness: () => report });
    const ready = await running.ask('/readyz');
    assert.equal(ready.status, 200);
    assert.deepEqual(JSON.parse(ready.body), {
      status: 'ready',
      checks: {
        policy: { status: 'ok', detail: 'version abcdef123456' },
        upstream_exposure: { status: 'unknown', detail: 'a network namespace hides it' },
      },
    });
    report = { checks: [...report.checks, { name: 'draining', status: 'failed', detail: constant('draining') }] };
    const unready = await running.ask('/readyz');
    assert.equal(unready.status, 503);
    assert.equal((JSON.parse(unready.body) as { status: string }).status, 'not_ready');
  });

  test('/metrics is what Prometheus asks for, with parameters or without', async () => {
    await using running = await Running.start();
    for (const target of ['/metrics', '/metrics?name[]=up']) {
      const answer = await running.ask(target);
      assert.equal(answer.status, 200);
      assert.equal(answer.body, 'up 1\n');
      assert.equal(answer.fields.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
    }
  });

  test('HEAD has the fields and no body', async () => {
    await using running = await Running.start();
    const answer = await running.ask('/metrics', [], 'HEAD');
    assert.equal(answer.status, 200);
    assert.equal(answer.fields.get('content-length'), '5');
    assert.equal(answer.body, '');
  });

  test('that break are a 500 that tells nothing', async () => {
    await using running = await Running.start({
      metrics: {
        contentType: 'text/plain',
        text: async () => {
          throw new Error('password=hunter2');
        },
      },
      readiness: () => {
        throw new Error('no');
      },
    });
    for (const target of ['/metrics', '/readyz']) {
      const answer = await running.ask(target);
      assert.equal(answer.status, 500);
      assert.deepEqual(JSON.parse(answer.body), { type: 'about:blank', title: 'Internal error', status: 500 });
    }
    assert.equal(running.errors[0], 'admin.failed an admin page could not be made password=[redacted]');
  });
});

/** What is asked, and what it is answered with. */
const REFUSALS: readonly (readonly [status: number, target: string, fields: readonly string[], method?: string])[] = [
  [404, '/', []],
  [404, '/healthz/', []],
  [404, '/HEALTHZ', []],
  [404, '//metrics', []],
  [404, '/x/../metrics', []],
  [404, '/%6Detrics', []],
  [404, 'http://127.0.0.1/metrics', []],
  [404, '*', []],
  [405, '/metrics', [], 'POST'],
  [405, '/metrics', [], 'OPTIONS'],
  [405, '/metrics', [], 'TRACE'],
  [405, '/nowhere', [], 'DELETE'],
  // DNS rebinding: the name is the attacker's, the address is ours.
  [421, '/metrics', ['Host: attacker.example']],
  [421, '/metrics', ['Host: localhost.attacker.example']],
  [421, '/metrics', ['Host: 127.0.0.1.nip.io:9180']],
  [421, '/metrics', ['Host: 2130706433']],
  [421, '/metrics', ['Host: 0x7f.1']],
  [421, '/metrics', ['Host: ::1']],
  [421, '/metrics', ['Host: [::1]x']],
  [421, '/metrics', ['Host: ']],
  [400, '/metrics', ['Host: 127.0.0.1', 'Host: attacker.example']],
  [403, '/metrics', ['Origin: https://attacker.example']],
  [403, '/metrics', ['Origin: null']],
  [403, '/metrics', ['Host: localhost:9180', 'Origin: http://localhost:3000']],
  [403, '/metrics', ['Host: localhost', 'Origin: https://localhost']],
  [200, '/metrics', ['Host: localhost:9180', 'Origin: http://localhost:9180']],
  [200, '/metrics', ['Host: LOCALHOST']],
  [200, '/metrics', ['Host: [::1]:9180']],
  [200, '/metrics', ['Host: 192.168.1.5:9180']],
];

describe('what is asked otherwise is refused', () => {
  for (const [status, target, fields, method = 'GET'] of REFUSALS) {
    test(`${method} ${target} ${fields.join(', ')}: ${status}`, async () => {
      await using running = await Running.start();
      const answer = await running.ask(target, fields, method);
      assert.equal(answer.status, status);
      assert.ok(status === 200 || !answer.body.includes('up 1'));
      if (status === 405) assert.equal(answer.fields.get('allow'), 'GET, HEAD');
    });
  }

  test('HTTP/1.0 needs no Host', async () => {
    await using running = await Running.start();
    assert.equal(read(await running.send('GET /healthz HTTP/1.0\r\n\r\n')).status, 200);
  });

  test('nothing after a body is a request', async () => {
    await using running = await Running.start();
    const head = 'POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc';
    const got = await running.send(`${head}GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    assert.equal(got.match(/HTTP\/1\.1 /g)?.length, 1);
  });

  test('what is not HTTP gets a 400 and is gone', async () => {
    await using running = await Running.start();
    assert.equal(read(await running.send('\u0016\u0003\u0001\u0002\r\n\r\n')).status, 400);
    assert.match(
      await running.send(`GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(10_000)}\r\n\r\n`),
      /^HTTP\/1\.1 4/,
    );
  });

  test('an upgrade is none', async () => {
    await using running = await Running.start();
    const answer = await running.ask('/healthz', ['Upgrade: websocket']);
    assert.equal(answer.status, 200);
  });
});

test('an address that is taken is an error', async () => {
  await using running = await Running.start();
  await assert.rejects(Running.start({ bind: { host: '127.0.0.1', port: running.port } }), { code: 'EADDRINUSE' });
});

test('closing takes no longer than an idle connection allows', async () => {
  const running = await Running.start();
  const idle = connect(running.port, '127.0.0.1');
  const half = connect(running.port, '127.0.0.1');
  for (const socket of [idle, half]) socket.on('error', () => undefined);
  await Promise.all([once(idle, 'connect'), once(half, 'connect')]);
  half.write('GET /metrics HTTP/1.1\r\n');
  const started = performance.now();
  await within(running.admin.close(), 'the end');
  assert.ok(performance.now() - started < 3_000);
  await running.admin.close();
  for (const socket of [idle, half]) socket.destroy();
});
