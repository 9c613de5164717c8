import assert from 'node:assert/strict';
import { request as httpsRequest } from 'node:https';
import { readFileSync, statSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { type Guard, assertUntouched, startGuard } from '../support/guard.js';
import { RecordingUpstream } from '../support/recording-upstream.js';

interface Got {
  readonly status: number;
  readonly header: (name: string) => string | undefined;
  readonly cookie: string | null;
  readonly body: string;
}

interface Ask {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

let upstream: RecordingUpstream;
let guard: Guard;
const ROUTES = [
  { name: 'open', path: '/open', methods: ['GET'], public: true },
  { name: 'run', path: '/run', methods: ['GET'], safe: false, require: 'read' },
  { name: 'read', path: '/**', methods: ['GET', 'HEAD'], require: 'read' },
  { name: 'write', path: '/**', methods: ['POST'], require: 'write' },
];

before(async () => {
  upstream = await RecordingUpstream.start({
    respond: (_request, connection) => {
      connection.write(
        'HTTP/1.1 200 OK\r\ncontent-length: 2\r\nset-cookie: a=1\r\nset-cookie: __Host-guardbee-web=forged; Path=/; Secure\r\n\r\nok',
      );
    },
  });
  guard = await startGuard({
    upstream: upstream.url,
    routes: ROUTES,
    listeners: {
      web: { tls: true, sessions: { login_with: ['keys'], title: 'Queen & <hive' }, origins: ['https://app.lan'] },
    },
  });
});

after(async () => {
  await guard[Symbol.asyncDispose]();
  await upstream[Symbol.asyncDispose]();
});

async function ask(path: string, { method = 'GET', headers = {}, body }: Ask = {}): Promise<Got> {
  const { port } = guard.target('web');
  return await new Promise((resolve, reject) => {
    const request = httpsRequest(
      { host: 'localhost', port, path, method, ca: guard.ca, agent: false, headers: { ...headers } },
      (response) => {
        const pieces: Buffer[] = [];
        response.on('data', (piece: Buffer) => pieces.push(piece));
        response.on('end', () => {
          const set = (response.headers['set-cookie'] ?? []).find((one) => one.startsWith('__Host-guardbee-web='));
          resolve({
            status: response.statusCode ?? 0,
            header: (name) => response.headers[name]?.toString(),
            cookie: set?.split(';')[0] ?? null,
            body: Buffer.concat(pieces).toString(),
          });
        });
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

const FORM = { 'content-type': 'application/x-www-form-urlencoded' };
const HTML = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' };
const SAME = { 'sec-fetch-site': 'same-origin' };

async function logIn(): Promise<string> {
  const got = await ask('/.guardbee/login', { method: 'POST', headers: { authorization: `Bearer ${guard.token}` } });
  assert.equal(got.status, 204);
  assert.ok(got.cookie !== null);
  return got.cookie;
}

test('who opens an address in a browser sees the page; a program gets a problem document', async () => {
  const page = await ask('/jobs?x=%22%3E1', { headers: { ...HTML, 'sec-fetch-mode': 'navigate' } });
  assert.equal(page.status, 401);
  assert.match(page.header('content-type') ?? '', /^text\/html/);
  assert.match(page.header('www-authenticate') ?? '', /^Cookie realm=/);
  assert.match(
    page.header('content-security-policy') ?? '',
    /^default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]{43}='; form-action 'self'; frame-ancestors 'none'; base-uri 'none'$/,
  );
  assert.equal(page.header('cache-control'), 'no-store');
  assert.equal(page.header('x-content-type-options'), 'nosniff');
  assert.match(page.body, /<h1>Sign in to Queen &amp; &lt;hive<\/h1>/);
  assert.match(page.body, /name="next" value="\/jobs\?x=%22%3E1"/);
  assert.doesNotMatch(page.body, /<script|password-form/);
  const not: readonly Readonly<Record<string, string>>[] = [
    {},
    { accept: '*/*' },
    { accept: 'text/html;q=0' },
    { ...HTML, 'sec-fetch-mode': 'cors' },
  ];
  for (const headers of not) {
    const problem = await ask('/jobs', { headers });
    assert.equal(problem.status, 401);
    assert.equal(problem.header('content-type'), 'application/problem+json', JSON.stringify(headers));
  }
  assert.equal(
    (await ask('/jobs', { method: 'POST', headers: HTML })).header('content-type'),
    'application/problem+json',
  );
  assertUntouched(upstream);
});

test('a credential becomes a cookie, the cookie opens what the credential does, and the upstream never sees it', async () => {
  const got = await ask('/.guardbee/login', {
    method: 'POST',
    headers: { ...FORM, ...SAME, ...HTML },
    body: `token=+${guard.token}%20&next=%2Fjobs%3Fa%3D1`,
  });
  assert.equal(got.status, 303);
  assert.equal(got.header('location'), '/jobs?a=1');
  assert.match(
    got.header('set-cookie') ?? '',
    /^__Host-guardbee-web=[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}; Path=\/; Max-Age=43200; Secure; HttpOnly; SameSite=Strict$/,
  );
  const cookie = got.cookie ?? '';
  for (const [path, sent, seen] of [
    ['/jobs', `a=1; ${cookie};b="2; 3" ; c`, 'a=1;b="2; 3" ; c'],
    ['/open', `${cookie}; a=1`, 'a=1'],
    ['/open', `a=1; ${cookie.replace('-web=', '-hive=')}`, 'a=1'],
    ['/jobs', cookie, null],
  ] as const) {
    const asked = await ask(path, { headers: { cookie: sent } });
    assert.equal(asked.status, 200, sent);
    // What the upstream says of our cookie goes no further either.
    assert.equal(asked.header('set-cookie'), 'a=1; Secure');
    const request = upstream.requests.at(-1);
    assert.equal(request?.header('cookie') ?? null, seen);
    assert.equal(request?.header('x-auth-user') ?? null, path === '/open' ? null : 'keeper');
  }
  const line = await guard.recordWhere(
    (one) => one['guardbee.reason'] === 'login' && one['http.response.status_code'] === 303,
  );
  assert.equal(line['guardbee.decision'], 'allow');
  assert.equal(line['guardbee.identity'], 'keeper');
  assert.ok(!guard.process.stdout.includes(guard.token));
  assert.ok(!guard.process.stdout.includes(cookie.slice(25)));
});

test('other listeners take no part in it: not this cookie, nor these pages', async () => {
  const cookie = await logIn();
  const { port } = guard.secure;
  const status = await new Promise((resolve, reject) => {
    httpsRequest(
      { host: 'localhost', port, path: '/jobs', ca: guard.ca, agent: false, headers: { cookie } },
      (response) => {
        response.resume();
        resolve(response.statusCode);
      },
    )
      .on('error', reject)
      .end();
  });
  assert.equal(status, 401);
});

test('what cannot log in does not, and says no more than it must', async () => {
  const seen = upstream.requests.length;
  const token = guard.token;
  const login = '/.guardbee/login';
  const rows: readonly (readonly [what: string, ask: Ask, status: number, reason: string])[] = [
    ['wrong token', { headers: { ...FORM, ...SAME }, body: 'token=not-the-token-at-all' }, 401, 'credential_invalid'],
    [
      'a password, which nobody asks for',
      { headers: { ...FORM, ...SAME }, body: 'username=a&password=hunter2' },
      401,
      'credential_invalid',
    ],
    ['no token', { headers: { ...FORM, ...SAME }, body: 'token=' }, 401, 'credential_missing'],
    ['nothing at all', {}, 401, 'credential_missing'],
    ['an empty form', { headers: { ...FORM, ...SAME, 'content-length': '0' } }, 401, 'credential_missing'],
    ['a field twice', { headers: { ...FORM, ...SAME }, body: `token=${token}&token=${token}` }, 400, 'login_malformed'],
    ['a field unknown', { headers: { ...FORM, ...SAME }, body: `token=${token}&admin=1` }, 400, 'login_malformed'],
    ['a password alone', { headers: { ...FORM, ...SAME }, body: 'password=hunter2' }, 400, 'login_malformed'],
    ['both kinds', { headers: { ...FORM, ...SAME }, body: `token=${token}&username=a` }, 400, 'credential_ambiguous'],
    [
      'form and field',
      { headers: { ...FORM, ...SAME, authorization: `Bearer ${token}` }, body: `token=${token}` },
      400,
      'credential_ambiguous',
    ],
    ['not UTF-8', { headers: { ...FORM, ...SAME }, body: 'token=%ff%fe' }, 400, 'login_malformed'],
    ['half an escape', { headers: { ...FORM, ...SAME }, body: 'token=%f' }, 400, 'login_malformed'],
    ['JSON', { headers: { ...SAME, 'content-type': 'application/json' }, body: '{}' }, 415, 'login_type_unsupported'],
    [
      'another charset',
      { headers: { ...SAME, 'content-type': 'application/x-www-form-urlencoded; charset=utf-16' }, body: 'a=1' },
      415,
      'login_type_unsupported',
    ],
    ['no type', { headers: SAME, body: `token=${token}` }, 415, 'login_type_unsupported'],
    [
      'too large, and says so',
      { headers: { ...FORM, ...SAME }, body: `token=${'a'.repeat(9_000)}` },
      413,
      'login_too_large',
    ],
    [
      'too large, and does not say so',
      { headers: { ...FORM, ...SAME, 'transfer-encoding': 'chunked' }, body: `token=${'a'.repeat(9_000)}` },
      413,
      'login_too_large',
    ],
    [
      'a form of another site',
      { headers: { ...FORM, origin: 'https://evil.example' }, body: `token=${token}` },
      403,
      'cross_site',
    ],
    ['a form that says nothing', { headers: FORM, body: `token=${token}` }, 403, 'cross_site'],
    [
      'a form of a sandbox',
      { headers: { ...FORM, origin: 'null', 'sec-fetch-site': 'cross-site' }, body: `token=${token}` },
      403,
      'cross_site',
    ],
    [
      'a field, of another site',
      { headers: { authorization: `Bearer ${token}`, origin: 'https://evil.example' } },
      403,
      'cross_site',
    ],
    ['a session', { headers: { ...SAME, cookie: await logIn() } }, 401, 'credential_missing'],
  ];
  for (const [what, one, status, reason] of rows) {
    const got = await ask(login, { method: 'POST', ...one });
    assert.equal(got.status, status, what);
    assert.equal(got.cookie, null, what);
    assert.equal(got.header('content-type'), 'application/problem+json', what);
    assert.equal((await guard.record(got.header('x-request-id') ?? ''))['guardbee.reason'], reason, what);
  }
  for (const body of ['token=not-the-token-at-all', 'username=keeper&password=x', 'username=nobody&password=x']) {
    const page = await ask(login, {
      method: 'POST',
      headers: { ...FORM, ...SAME, ...HTML },
      body: `${body}&next=/jobs`,
    });
    assert.equal(page.status, 401);
    assert.match(
      page.body,
      /<p role="alert" id="alert">That did not work\. Check what you entered, and try again\.<\/p>/,
    );
    assert.match(page.body, /name="next" value="\/jobs"/);
    assert.match(page.body, /<title>Error: /);
  }
  assert.equal(upstream.requests.length, seen);
  assert.ok(!guard.process.stdout.includes('hunter2'));
});

test('after the login one stays on this origin', async () => {
  const elsewhere = [
    '//evil.example',
    '/\\evil.example',
    'https://evil.example/',
    '/\t/evil.example',
    '/a\\b',
    'x',
    '',
  ];
  elsewhere.push('/a//b', '/%5cevil.example', '/.guardbee/logout', '/a\nSet-Cookie: x=1', `/${'a'.repeat(3_000)}`);
  for (const next of elsewhere) {
    const body = `token=${guard.token}&next=${encodeURIComponent(next)}`;
    const got = await ask('/.guardbee/login', { method: 'POST', headers: { ...FORM, ...SAME, ...HTML }, body });
    assert.equal(got.header('location'), '/', JSON.stringify(next));
    const page = await ask(`/.guardbee/login?next=${encodeURIComponent(next)}`);
    assert.match(page.body, /name="next" value="\/"/, JSON.stringify(next));
  }
  const page = await ask('/.guardbee/login?next=%2Fa%3Fb%3D%22%3C');
  assert.match(page.body, /name="next" value="\/a\?b=&quot;&lt;"/);
});

test('a session changes nothing for another site, and nothing where nobody says who asks', async () => {
  const cookie = await logIn();
  const rows: readonly (readonly [
    method: string,
    path: string,
    headers: Readonly<Record<string, string>>,
    status: number,
  ])[] = [
    ['GET', '/jobs', { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }, 200],
    ['GET', '/run', {}, 403],
    ['GET', '/run', { 'sec-fetch-site': 'cross-site' }, 403],
    ['GET', '/run', SAME, 200],
    ['POST', '/jobs', {}, 403],
    ['POST', '/jobs', { origin: 'https://evil.example' }, 403],
    ['POST', '/jobs', { origin: 'null' }, 403],
    ['POST', '/jobs', { 'sec-fetch-site': 'same-site' }, 403],
    ['POST', '/jobs', SAME, 200],
    ['POST', '/jobs', { origin: 'https://app.lan', 'sec-fetch-site': 'same-site' }, 200],
    ['POST', '/jobs', { origin: `https://localhost:${String(guard.target('web').port)}` }, 200],
  ];
  for (const [method, path, headers, status] of rows) {
    const got = await ask(path, { method, headers: { ...headers, cookie } });
    assert.equal(got.status, status, `${method} ${path} ${JSON.stringify(headers)}`);
    if (status === 403) {
      assert.equal((await guard.record(got.header('x-request-id') ?? ''))['guardbee.reason'], 'cross_site');
    }
  }
});

test('refresh keeps the session, logout ends it, and both only for this site', async () => {
  const cookie = await logIn();
  for (const page of ['refresh', 'logout']) {
    for (const headers of [{}, { origin: 'https://evil.example' }, { 'sec-fetch-site': 'cross-site' }] as const) {
      const got = await ask(`/.guardbee/${page}`, { method: 'POST', headers: { ...headers, cookie } });
      assert.equal(got.status, 403, page);
      assert.equal(got.header('set-cookie'), undefined);
    }
  }
  assert.equal((await ask('/.guardbee/refresh', { method: 'POST', headers: SAME })).status, 401);
  const fresh = await ask('/.guardbee/refresh', { method: 'POST', headers: { ...SAME, cookie } });
  assert.equal(fresh.status, 204);
  assert.ok(fresh.cookie !== null);
  assert.equal((await ask('/jobs', { headers: { cookie: fresh.cookie } })).status, 200);

  const signedIn = await ask('/.guardbee/login', { headers: { cookie } });
  assert.match(signedIn.body, /signed in as <strong>keeper<\/strong>/);
  const gone = await ask('/.guardbee/logout', { method: 'POST', headers: { ...SAME, ...HTML, cookie } });
  assert.equal(gone.status, 303);
  assert.equal(gone.header('location'), '/.guardbee/login');
  assert.equal(gone.cookie, '__Host-guardbee-web=');
  for (const value of [cookie, fresh.cookie]) {
    const after = await ask('/jobs', { headers: { cookie: value } });
    assert.equal(after.status, 401);
    assert.equal((await guard.record(after.header('x-request-id') ?? ''))['guardbee.reason'], 'credential_revoked');
  }
  // Once more is no error.
  assert.equal((await ask('/.guardbee/logout', { method: 'POST', headers: { ...SAME, cookie } })).status, 204);
});

test('whatever else is below /.guardbee/ is nothing, and never the upstream’s', async () => {
  const seen = upstream.requests.length;
  const cookie = await logIn();
  for (const [method, path, status, allow] of [
    ['GET', '/.guardbee', 404, undefined],
    ['GET', '/.guardbee/', 404, undefined],
    ['GET', '/.guardbee/login/', 404, undefined],
    ['GET', '/%2eguardbee/other', 404, undefined],
    ['DELETE', '/.guardbee/login', 405, 'GET, HEAD, POST'],
    ['GET', '/.guardbee/logout', 405, 'POST'],
    ['GET', '/%2Eguardbee/refresh', 405, 'POST'],
    ['OPTIONS', '/.guardbee/login', 405, 'GET, HEAD, POST'],
  ] as const) {
    const got = await ask(path, { method, headers: { cookie } });
    assert.equal(got.status, status, `${method} ${path}`);
    assert.equal(got.header('allow'), allow);
  }
  assert.equal((await ask('/.guardbee/login', { method: 'HEAD' })).body, '');
  assert.equal(upstream.requests.length, seen);
});

test('a form that never ends, and one whose sender leaves, hold nothing up', async () => {
  const { port } = guard.target('web');
  const request = httpsRequest({
    host: 'localhost',
    port,
    path: '/.guardbee/login',
    method: 'POST',
    ca: guard.ca,
    agent: false,
    headers: { ...FORM, ...SAME, 'content-length': '20' },
  });
  request.on('error', () => undefined);
  request.write('token=');
  await new Promise((resolve) => request.once('socket', (socket) => socket.once('secureConnect', resolve)));
  await pause(20);
  request.destroy();
  const line = await guard.recordWhere((one) => one['guardbee.reason'] === 'client_gone');
  assert.equal(line['url.path'], '/.guardbee/login');
  assert.equal((await ask('/.guardbee/login')).status, 200);
});

test('the key is made once, for nobody else to read', () => {
  const file = guard.directory.file('state/session-key');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal(readFileSync(file).length, 32);
});
