import assert from 'node:assert/strict';
import type { IncomingHttpHeaders } from 'node:http2';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { chromium } from 'playwright-core';
import { testCertificates } from '../support/certificates.js';
import { requireComponent } from '../support/component.js';
import { type Guard, assertUntouched, startGuard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { type FieldList, fieldValues } from '../support/message-reader.js';
import { openWebSocket, request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { PATIENCE_MS } from '../support/wait.js';

const APP = 'https://app.lan';
const EXPOSED = 'x-request-id, retry-after, ratelimit, ratelimit-policy, www-authenticate';
/** What rbee's services say to everybody. */
const THEIRS: FieldList = [
  ['Access-Control-Allow-Origin', '*'],
  ['Access-Control-Allow-Methods', '*'],
  ['Access-Control-Expose-Headers', '*'],
  ['Vary', 'Accept-Encoding'],
  ['Vary', 'Accept'],
];

interface Answer {
  readonly status: number;
  readonly fields: FieldList;
}

/** Of a field, as one list. */
function said({ fields }: Answer, name: string): string | null {
  const values = fieldValues(fields, name);
  return values.length === 0 ? null : values.join(', ');
}

function cors(answer: Answer): string[] {
  return answer.fields.map(([name]) => name.toLowerCase()).filter((name) => name.startsWith('access-control-'));
}

function flat(headers: IncomingHttpHeaders): FieldList {
  return Object.entries(headers).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value ?? '']).map((one): readonly [string, string] => [name, one]),
  );
}

describe('pages elsewhere ask and read what cors says', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;

  before(async () => {
    upstream = await RecordingUpstream.start({
      respond: respond.byPath(
        {
          '/shared': respond.status(200, THEIRS, 'hello'),
          '/everything': respond.status(200, [['Vary', '*']], 'hello'),
          '/origin': respond.status(200, [['Vary', 'origin']], 'hello'),
          '/gone': respond.endWithoutAnswer(),
          '/socket': respond.webSocket(),
        },
        respond.echo(),
      ),
    });
    guard = await startGuard({
      upstream: upstream.url,
      listeners: {
        list: { tls: true, cors: { origins: [APP, 'http://app.lan:8080'] } },
        any: { tls: true, cors: { origins: 'any' } },
        full: {
          tls: true,
          hosts: ['127.0.0.1'],
          cors: {
            origins: [APP],
            methods: ['GET', 'POST'],
            headers: ['Authorization', 'X-Special'],
            expose: ['X-Special', 'Retry-After'],
            credentials: true,
            max_age: '90s',
          },
        },
        none: { tls: true },
        local: { authenticate: ['keys'], local_identity: { name: 'local', roles: ['operator'] } },
      },
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  /** The same over both versions, which must say the same. */
  async function ask(
    listener: string,
    { method = 'GET', path = '/x', headers = [] as FieldList, token = true, host = '' } = {},
  ): Promise<Answer> {
    const target = guard.target(listener);
    const first = await request(target, {
      method,
      path,
      headers,
      ...(token ? { token: guard.token } : {}),
      ...(host === '' ? {} : { host }),
    });
    if (target.tls === undefined) return { status: first.status, fields: first.headers };
    const session = await h2Connect(target);
    const second = await h2Request(session, {
      ':method': method,
      ':path': path,
      ...(host === '' ? {} : { ':authority': host }),
      ...Object.fromEntries(headers),
      ...(token ? { authorization: `Bearer ${guard.token}` } : {}),
    });
    session.destroy();
    const one: Answer = { status: first.status, fields: first.headers };
    const two: Answer = { status: second.status, fields: flat(second.headers) };
    assert.equal(one.status, two.status);
    assert.deepEqual(cors(one).sort(), cors(two).sort());
    for (const name of [...cors(one), 'vary']) assert.equal(said(one, name), said(two, name), name);
    return one;
  }

  const preflight = (origin: string, method: string, headers?: string): FieldList => [
    ['Origin', origin],
    ['Access-Control-Request-Method', method],
    ...(headers === undefined ? [] : [['Access-Control-Request-Headers', headers] as const]),
  ];

  test('preflights are answered here, without a credential', async () => {
    const table: readonly (readonly [string, FieldList, number])[] = [
      ['list', preflight(APP, 'GET'), 204],
      ['list', preflight(APP, 'DELETE', 'authorization,content-type'), 204],
      ['list', preflight('HTTPS://App.Lan:443', 'POST', 'x-deadline'), 204],
      ['list', preflight('http://app.lan:8080', 'POST'), 204],
      ['list', preflight('http://app.lan', 'POST'), 403],
      ['list', preflight('https://app.lan.evil.test', 'POST'), 403],
      ['list', preflight('https://app.lan:8443', 'POST'), 403],
      ['list', preflight('null', 'POST'), 403],
      ['list', preflight('', 'POST'), 403],
      ['list', preflight(APP, 'PROPFIND'), 403],
      ['list', preflight(APP, 'post'), 403],
      ['list', preflight(APP, 'POST', 'x-special'), 403],
      ['any', preflight('https://anyone.test', 'PUT', 'Authorization'), 204],
      ['any', preflight('tauri://localhost', 'PUT'), 204],
      ['any', preflight('null', 'GET'), 403],
      ['any', preflight('https://a.test, https://b.test', 'GET'), 403],
      ['full', preflight(APP, 'POST', 'authorization, x-special'), 204],
      ['full', preflight(APP, 'PUT'), 403],
      ['full', preflight(APP, 'POST', 'content-type'), 403],
    ];
    for (const [listener, headers, status] of table) {
      const name = `${listener} ${JSON.stringify(headers)}`;
      const answer = await ask(listener, { method: 'OPTIONS', headers, token: false });
      assert.equal(answer.status, status, name);
      if (status === 204) assert.ok(said(answer, 'access-control-allow-origin') !== null, name);
      else assert.deepEqual(cors(answer), [], name);
      assert.match(said(answer, 'vary') ?? '', /^Origin/, name);
      const line = await guard.record(said(answer, 'x-request-id') ?? '');
      assert.equal(line['guardbee.reason'], status === 204 ? 'preflight' : 'cors_refused');
    }
    const full = await ask('full', { method: 'OPTIONS', headers: preflight(APP, 'POST'), token: false });
    assert.equal(said(full, 'access-control-allow-origin'), APP);
    assert.equal(said(full, 'access-control-allow-credentials'), 'true');
    assert.equal(said(full, 'access-control-allow-methods'), 'GET, POST');
    assert.equal(said(full, 'access-control-allow-headers'), 'authorization, x-special');
    assert.equal(said(full, 'access-control-max-age'), '90');
    // The host counts as ever.
    const elsewhere = await ask('full', { method: 'OPTIONS', headers: preflight(APP, 'POST'), host: 'other.test' });
    assert.equal(elsewhere.status, 421);
    assertUntouched(upstream);
  });

  test('other OPTIONS are requests like any', async () => {
    assert.equal((await ask('list', { method: 'OPTIONS', headers: [['Origin', APP]], token: false })).status, 401);
    const seen = upstream.requests.length;
    assert.equal((await ask('list', { method: 'OPTIONS', headers: [['Origin', APP]] })).status, 200);
    assert.equal((await ask('none', { method: 'OPTIONS', headers: preflight(APP, 'GET') })).status, 200);
    assert.equal(upstream.requests.length, seen + 4);
  });

  test('answers say who may read them, ours and failures too, and the upstream is not asked', async () => {
    const origin: FieldList = [['Origin', APP]];
    const table: readonly (readonly [Parameters<typeof ask>[1], number, string])[] = [
      [{ path: '/shared', headers: origin }, 200, 'Accept-Encoding, Accept, Origin'],
      [{ path: '/everything', headers: origin }, 200, '*'],
      [{ path: '/origin', headers: origin }, 200, 'origin'],
      [{ path: '/x', headers: origin, token: false }, 401, 'Origin'],
      [{ path: '/gone', headers: origin }, 502, 'Origin'],
      [{ path: '/x', headers: [...origin, ['X-Deadline', '0']] }, 504, 'Origin'],
    ];
    for (const [asked, status, vary] of table) {
      const answer = await ask('list', asked);
      assert.equal(answer.status, status);
      assert.equal(said(answer, 'access-control-allow-origin'), APP);
      assert.equal(said(answer, 'access-control-expose-headers'), EXPOSED);
      assert.equal(said(answer, 'vary'), vary);
      assert.deepEqual(cors(answer).sort(), ['access-control-allow-origin', 'access-control-expose-headers']);
      // Whoever is not listed gets an answer that no page may read.
      const other = await ask('list', {
        ...asked,
        headers: (asked?.headers ?? []).map(([name, value]) => [name, name === 'Origin' ? 'https://evil.test' : value]),
      });
      assert.equal(other.status, status);
      assert.deepEqual(cors(other), []);
      assert.equal(said(other, 'vary'), vary);
    }
    const full = await ask('full', { path: '/shared', headers: origin });
    assert.equal(said(full, 'access-control-allow-credentials'), 'true');
    assert.equal(said(full, 'access-control-expose-headers'), `${EXPOSED}, x-special`);
    assert.equal(said(await ask('any', { headers: origin }), 'access-control-allow-origin'), '*');
    assert.deepEqual(cors(await ask('any', { headers: [['Origin', 'null']] })), []);
    assert.deepEqual(cors(await ask('list', { path: '/shared' })), [], 'no page asked');
  });

  test("without cors the upstream's word passes, but not to a page that had no credential of its own", async () => {
    const theirs = ['access-control-allow-methods', 'access-control-allow-origin', 'access-control-expose-headers'];
    const foreign: FieldList = [['Origin', 'https://evil.test']];
    assert.deepEqual(cors(await ask('none', { path: '/shared', headers: foreign })).sort(), theirs);
    assert.deepEqual(cors(await ask('local', { path: '/shared', headers: foreign })).sort(), theirs);
    const ambient = await ask('local', { path: '/shared', headers: foreign, token: false });
    assert.equal(ambient.status, 200);
    assert.deepEqual(cors(ambient), []);
    assert.equal(said(ambient, 'vary'), 'Accept-Encoding, Accept');
    const own: FieldList = [['Origin', `http://127.0.0.1:${String(guard.target('local').port)}`]];
    assert.deepEqual(cors(await ask('local', { path: '/shared', headers: own, token: false })).sort(), theirs);
    assert.deepEqual(cors(await ask('local', { path: '/shared', token: false })).sort(), theirs);
  });

  test('a WebSocket is opened as without cors', async () => {
    const headers: FieldList = [['Origin', APP]];
    const opened = await openWebSocket(guard.target('list'), { path: '/socket', token: guard.token, headers });
    assert.ok(opened.socket !== null);
    opened.connection.close();
  });

  test('Chromium lets the page read what it may, and nothing else', async (t) => {
    const executablePath = requireComponent('chromium', t);
    if (executablePath === null) return;
    const page = createServer((await testCertificates()).server, (_request, response) => {
      response.setHeader('content-type', 'text/html');
      response.end('<!doctype html><title>App</title>');
    });
    await new Promise<void>((resolve) => page.listen(0, '127.0.0.1', resolve));
    const port = String((page.address() as AddressInfo).port);
    const browser = await chromium.launch({
      executablePath,
      headless: true,
      args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
    });
    await using second = await startGuard({
      upstream: upstream.url,
      listeners: { web: { tls: true, cors: { origins: [`https://localhost:${port}`] } } },
    });
    try {
      const context = await browser.newContext({ ignoreHTTPSErrors: true });
      const tab = await context.newPage();
      tab.setDefaultTimeout(PATIENCE_MS);
      const url = `https://127.0.0.1:${String(second.target('web').port)}`;
      const fetched = async (path: string, token: string | null): Promise<string> =>
        await tab.evaluate(
          async ({ to, bearer }) => {
            try {
              const answer = await fetch(to, {
                method: 'POST',
                headers: {
                  'content-type': 'application/json',
                  ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }),
                },
                body: '{}',
              });
              return `${String(answer.status)} ${answer.headers.get('x-request-id') === null ? 'without' : 'with'} id`;
            } catch {
              return 'kept from the page';
            }
          },
          { to: `${url}${path}`, bearer: token },
        );
      await tab.goto(`https://localhost:${port}/`);
      const seen = upstream.requests.length;
      assert.equal(await fetched('/shared', second.token), '200 with id');
      assert.equal(await fetched('/shared', null), '401 with id');
      await tab.goto(`https://127.0.0.1:${port}/`);
      assert.equal(await fetched('/shared', second.token), 'kept from the page');
      assert.deepEqual(
        upstream.requests.slice(seen).map(({ method }) => method),
        ['POST'],
      );
    } finally {
      await browser.close();
      page.closeAllConnections();
      page.close();
    }
  });
});
