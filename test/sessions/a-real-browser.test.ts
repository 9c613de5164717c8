/** Chromium itself: what browsers send along, keep to themselves and refuse is theirs to say, not ours to imagine. */
import assert from 'node:assert/strict';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { hashSync } from 'bcryptjs';
import { type Browser, type Page, chromium } from 'playwright-core';
import { testCertificates } from '../support/certificates.js';
import { requireComponent } from '../support/component.js';
import { assertUntouched, startGuard } from '../support/guard.js';
import { writeFileIn } from '../support/policy-builder.js';
import { type RecordedConnection, type RecordedRequest, RecordingUpstream } from '../support/recording-upstream.js';
import { PATIENCE_MS, waitUntil } from '../support/wait.js';
import { websocketAccept } from '../support/websocket-frames.js';

const PAGE = `<!doctype html><title>Dashboard</title><h1>Dashboard</h1>`;

function respond(request: RecordedRequest, connection: RecordedConnection): void {
  if (request.target === '/events') {
    connection.write('HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: hello\n\n');
  } else if (request.header('upgrade') !== null) {
    connection.tunnel(() => undefined);
    connection.write(
      'HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n' +
        `sec-websocket-accept: ${websocketAccept(request.header('sec-websocket-key') ?? '')}\r\n\r\n`,
    );
  } else {
    connection.write(
      `HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: ${String(PAGE.length)}\r\n\r\n${PAGE}`,
    );
  }
}

/** In the page: opens a WebSocket, and says how that went. */
function socketTo(page: Page, url: string): Promise<string> {
  return page.evaluate(
    (to) =>
      new Promise<string>((resolve) => {
        const socket = new WebSocket(to);
        socket.onopen = () => {
          resolve('open');
        };
        socket.onclose = () => {
          resolve('refused');
        };
      }),
    url,
  );
}

function launch(executablePath: string): Promise<Browser> {
  return chromium.launch({
    executablePath,
    headless: true,
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
  });
}

test('a person logs in, works, is not robbed by another site, and logs out', async (t) => {
  const executablePath = requireComponent('chromium', t);
  if (executablePath === null) return;
  await using upstream = await RecordingUpstream.start({ respond });
  await using guard = await startGuard({
    upstream: upstream.url,
    listeners: { web: { tls: true, sessions: { login_with: ['keys'], title: 'the lab', same_site: 'lax' } } },
  });
  const port = String(guard.target('web').port);
  const origin = `https://localhost:${port}`;
  // The same site to SameSite, which knows no ports, and another one to Origin: the cookie is shown.
  const foreign = createServer((await testCertificates()).server, (_request, response) => {
    response.setHeader('content-type', 'text/html');
    response.end(
      `<!doctype html><title>Elsewhere</title><form method="post" action="${origin}/v1/jobs"><button>Win</button></form>`,
    );
  });
  await new Promise<void>((resolve) => foreign.listen(0, '127.0.0.1', resolve));
  const elsewhere = `https://localhost:${String((foreign.address() as AddressInfo).port)}/`;
  const browser = await launch(executablePath);
  try {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    const complaints: string[] = [];
    page.on('console', (message) => {
      if (/Content Security Policy/i.test(message.text())) complaints.push(message.text());
    });

    await t.test('the page asks who one is', async () => {
      const response = await page.goto(`${origin}/jobs?all=1`);
      assert.equal(response?.status(), 401);
      assert.equal(await page.title(), 'Sign in to the lab');
      // What a screen reader is told: every field has its name, the button too.
      const tree = await page.locator('body').ariaSnapshot();
      assert.match(tree, /heading "Sign in to the lab" \[level=1\]/);
      assert.match(tree, /textbox "Token"/);
      assert.match(tree, /button "Sign in"/);
      assert.equal(await page.locator('html').getAttribute('lang'), 'en');
      assert.equal(await page.evaluate('document.activeElement.id'), 'token');
      // The style is in force, so its digest in the policy of the page is right.
      assert.equal(await page.evaluate('getComputedStyle(document.querySelector("main")).maxWidth'), '384px');
    });

    await t.test('a wrong token is told of, and not which part of it is wrong', async () => {
      await page.getByLabel('Token').fill('not-the-token-at-all');
      await page.getByLabel('Token').press('Enter');
      await page.getByRole('alert').waitFor();
      assert.match(await page.getByRole('alert').innerText(), /^That did not work\./);
      assert.equal(await page.title(), 'Error: Sign in to the lab');
      assert.equal(await page.evaluate('document.activeElement.id'), 'token');
      assert.equal(upstream.requests.length, 0);
    });

    await t.test('the right one leads to where one wanted to go', async () => {
      await page.getByLabel('Token').fill(guard.token);
      await page.getByRole('button', { name: 'Sign in' }).click();
      await page.waitForURL(`${origin}/jobs?all=1`);
      assert.equal(await page.title(), 'Dashboard');
      const cookies = await context.cookies(origin);
      assert.equal(cookies.length, 1);
      const cookie = cookies.find(({ name }) => name === '__Host-guardbee-web');
      assert.ok(cookie !== undefined);
      assert.deepEqual([cookie.httpOnly, cookie.secure, cookie.sameSite, cookie.path], [true, true, 'Lax', '/']);
      assert.equal(await page.evaluate('document.cookie'), '');
    });

    await t.test('fetch, WebSocket and EventSource go through the session', async () => {
      assert.equal(await page.evaluate(async () => (await fetch('/v1/jobs', { method: 'POST' })).status), 200);
      assert.equal(await socketTo(page, `wss://localhost:${port}/ws`), 'open');
      const heard = await page.evaluate(
        `new Promise((resolve) => {
          globalThis.events = new EventSource('/events');
          events.onmessage = (event) => resolve(event.data);
        })`,
      );
      assert.equal(heard, 'hello');
      for (const request of upstream.requests) {
        assert.equal(request.header('cookie'), null);
        assert.equal(request.header('x-auth-user'), 'keeper');
      }
    });

    await t.test('a page of another origin gets nothing done, though its browser shows the cookie', async () => {
      const seen = upstream.requests.length;
      const other = await context.newPage();
      other.setDefaultTimeout(PATIENCE_MS);
      await other.goto(elsewhere);
      assert.equal(await socketTo(other, `wss://localhost:${port}/ws`), 'refused');
      const [response] = await Promise.all([
        other.waitForResponse((one) => one.url() === `${origin}/v1/jobs`),
        other.getByRole('button', { name: 'Win' }).click(),
      ]);
      assert.equal(response.status(), 403);
      await guard.recordWhere((line) => line['guardbee.reason'] === 'cross_site' && line['url.path'] === '/v1/jobs');
      const denied = guard.records.filter((line) => line['guardbee.reason'] === 'cross_site');
      assert.deepEqual(denied.map((line) => line['url.path']).sort(), ['/v1/jobs', '/ws']);
      // The cookie was there: it is not SameSite that held.
      for (const line of denied) assert.equal(line['guardbee.identity'], 'keeper');
      // A browser asks for the icon of whatever it shows; reading is not what the rule is about.
      const more = upstream.requests.slice(seen).map(({ method, target }) => `${method} ${target}`);
      assert.deepEqual(
        more.filter((line) => line !== 'GET /favicon.ico'),
        [],
      );
      await other.close();
    });

    await t.test('logging out ends the session and the streams that it opened', async () => {
      const stream = upstream.requests.find((one) => one.target === '/events')?.connection;
      assert.ok(stream?.endedAtMs === null);
      const second = await context.newPage();
      await second.goto(`${origin}/.guardbee/login`);
      assert.match(await second.locator('main').innerText(), /signed in as keeper/);
      await second.getByRole('button', { name: 'Sign out' }).click();
      await second.getByLabel('Token').waitFor();
      assert.deepEqual(await context.cookies(origin), []);
      await waitUntil(() => stream.endedAtMs !== null, 'the upstream to hear that the stream was cut');
      assert.equal((await second.goto(`${origin}/jobs`))?.status(), 401);
    });
    assert.deepEqual(complaints, []);
  } finally {
    await browser.close();
    foreign.closeAllConnections();
    foreign.close();
  }
  assert.ok(!guard.process.stdout.includes(guard.token));
});

test('a name and a password of an htpasswd file open the door, and nothing less does', async (t) => {
  const executablePath = requireComponent('chromium', t);
  if (executablePath === null) return;
  const password = 'grüße & 100% =+ bees';
  await using upstream = await RecordingUpstream.start({ respond });
  await using guard = await startGuard({
    upstream: upstream.url,
    authenticators: { people: { type: 'basic', htpasswd_file: 'users.htpasswd', roles: ['operator'] } },
    listeners: { web: { tls: true, authenticate: ['people'], sessions: { login_with: ['people'], title: 'the lab' } } },
    prepare: (directory) => writeFileIn(directory, 'users.htpasswd', `anna:${hashSync(password, 5)}\n`),
  });
  const origin = `https://localhost:${String(guard.target('web').port)}`;
  const browser = await launch(executablePath);
  try {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    const response = await page.goto(`${origin}/jobs?all=1`);
    assert.equal(response?.status(), 401);
    // With that in this field, a browser asks for the name and the password in a window of its own.
    assert.doesNotMatch(response.headers()['www-authenticate'] ?? '', /basic/i);
    const tree = await page.locator('body').ariaSnapshot();
    assert.match(tree, /textbox "User name"/);
    assert.match(tree, /textbox "Password"/);
    assert.doesNotMatch(tree, /Token/);
    assert.equal(await page.evaluate('document.activeElement.id'), 'username');

    const said: string[] = [];
    for (const [name, shown] of [
      ['anna', 'not the password'],
      ['nobody', password],
      ['Anna', password],
      ['anna', `${password} `],
    ] as const) {
      await page.getByLabel('User name').fill(name);
      await page.getByLabel('Password').fill(shown);
      const [answer] = await Promise.all([
        page.waitForResponse((one) => one.request().method() === 'POST'),
        page.getByRole('button', { name: 'Sign in' }).click(),
      ]);
      assert.equal(answer.status(), 401);
      await page.getByRole('alert').waitFor();
      said.push(await page.getByRole('alert').innerText());
      assert.equal(await page.getByLabel('Password').inputValue(), '', 'no password is sent back');
      assert.deepEqual(await context.cookies(origin), []);
    }
    assert.match(said[0] ?? '', /^That did not work\./);
    assert.equal(new Set(said).size, 1, 'which of the two was wrong, nobody is told');
    assertUntouched(upstream);

    await page.getByLabel('User name').fill('anna');
    await page.getByLabel('Password').fill(password);
    await page.getByLabel('Password').press('Enter');
    await page.waitForURL(`${origin}/jobs?all=1`);
    assert.equal(await page.title(), 'Dashboard');
    assert.equal(await page.evaluate(async () => (await fetch('/v1/jobs', { method: 'POST' })).status), 200);
    for (const request of upstream.requests) {
      assert.equal(request.header('x-auth-user'), 'anna');
      for (const name of ['authorization', 'cookie']) assert.equal(request.header(name), null);
    }
    const second = await context.newPage();
    await second.goto(`${origin}/.guardbee/login`);
    assert.match(await second.locator('main').innerText(), /signed in as anna/);
    await second.getByRole('button', { name: 'Sign out' }).click();
    await second.getByLabel('Password').waitFor();
    assert.equal((await page.goto(`${origin}/jobs`))?.status(), 401);
  } finally {
    await browser.close();
  }
  assert.ok(!guard.process.stdout.includes(password));
});
