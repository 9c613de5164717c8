import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isCrossSite, provenance } from '../../src/gate/cross-site.js';
import { prefersHtml } from '../../src/http/accept.js';
import { readAuthority } from '../../src/http/host.js';
import type { Message } from '../../src/http/message.js';
import { readOrigin } from '../../src/http/origin.js';
import { setsSessionCookie, withoutSessionCookies } from '../../src/http/session-cookies.js';
import type { Carrier } from '../../src/policy/policy.js';
import { parseForm } from '../../src/server/login-form.js';
import { pathToGoOn } from '../../src/server/login-answer.js';
import { listenerOf } from '../gate/listeners.js';

const LISTED = new Set(['https://app.lan', 'http://localhost:3000']);

function from(origin: string | null, fetchSite: string | null, host = 'queen.lan', scheme: 'http' | 'https' = 'https') {
  const authority = readAuthority(host);
  assert.ok(authority !== null);
  return provenance({ origin, fetchSite, authority }, scheme, LISTED);
}

describe('which site made the browser ask', () => {
  const rows: readonly (readonly [
    origin: string | null,
    site: string | null,
    is: string,
    host?: string,
    scheme?: 'http',
  ])[] = [
    [null, null, 'unsaid'],
    ['https://queen.lan', null, 'ours'],
    ['https://queen.lan', 'same-origin', 'ours'],
    [null, 'same-origin', 'ours'],
    [null, 'none', 'ours'],
    ['https://queen.lan', 'none', 'ours'],
    // The page has Referrer-Policy: no-referrer.
    ['null', 'same-origin', 'ours'],
    ['null', null, 'foreign'],
    ['null', 'none', 'foreign'],
    ['null', 'cross-site', 'foreign'],
    ['null', 'same-site', 'foreign'],
    [null, 'same-site', 'foreign'],
    [null, 'cross-site', 'foreign'],
    // What contradicts itself is not believed.
    ['https://queen.lan', 'cross-site', 'foreign'],
    ['https://queen.lan', 'same-site', 'foreign'],
    ['https://evil.example', 'same-origin', 'foreign'],
    ['https://evil.example', 'none', 'foreign'],
    ['https://evil.example', null, 'foreign'],
    // Those that the policy names may, whatever the browser calls the distance.
    ['https://app.lan', 'cross-site', 'ours'],
    ['https://app.lan', 'same-site', 'ours'],
    ['https://app.lan:443', null, 'ours'],
    ['http://app.lan', 'cross-site', 'foreign'],
    ['https://app.lan:8443', 'same-site', 'foreign'],
    ['http://localhost:3000', 'cross-site', 'ours'],
    // Letters and ports.
    ['HTTPS://Queen.LAN', null, 'ours'],
    ['https://queen.lan:443', null, 'ours'],
    ['https://queen.lan', null, 'ours', 'QUEEN.lan:443'],
    ['https://queen.lan:8443', null, 'ours', 'queen.lan:8443'],
    ['https://queen.lan', null, 'foreign', 'queen.lan:8443'],
    ['https://queen.lan:80', null, 'foreign'],
    ['http://queen.lan', null, 'foreign'],
    ['http://queen.lan', null, 'ours', 'queen.lan:80', 'http'],
    ['https://queen.lan', null, 'foreign', 'queen.lan', 'http'],
    ['https://[::1]:8443', null, 'ours', '[0:0:0:0:0:0:0:1]:8443'],
    // Not one origin.
    ['https://queen.lan https://evil.example', null, 'foreign'],
    ['https://queen.lan,https://queen.lan', null, 'foreign'],
    ['https://queen.lan/', null, 'foreign'],
    ['https://user@queen.lan', null, 'foreign'],
    ['https://queen.lan.evil.example', null, 'foreign'],
    ['', null, 'foreign'],
    ['queen.lan', null, 'foreign'],
    ['chrome-extension://abc', 'none', 'foreign'],
    // Not one word, or not that word.
    [null, 'same-origin,cross-site', 'foreign'],
    [null, 'SAME-ORIGIN', 'foreign'],
    [null, '', 'foreign'],
    [null, '"same-origin"', 'foreign'],
  ];
  for (const [origin, site, is, host, scheme] of rows) {
    test(`Origin ${String(origin)}, Sec-Fetch-Site ${String(site)} at ${scheme ?? 'https'}://${host ?? 'queen.lan'}: ${is}`, () => {
      assert.equal(from(origin, site, host, scheme), is);
    });
  }
});

describe('where it matters', () => {
  const listener = listenerOf({ routes: [{ path: '/**' }] });
  const [route] = listener.routes.routes;
  assert.ok(route !== undefined);
  const asked = (carrier: Carrier, method: string, safe: boolean, upgrade: boolean, origin: string | null): boolean => {
    const authority = readAuthority('queen.lan');
    const webSocket = upgrade ? { key: '', subprotocols: [], extensions: null } : null;
    const message = { method, authority, origin, fetchSite: null, webSocket } as unknown as Message;
    const admitted = {
      admitted: true,
      listener,
      message,
      route: { ...route, safe },
      client: '',
      requestId: null,
    } as const;
    return isCrossSite({ ...admitted, scheme: 'https' }, carrier);
  };
  const ambient: readonly Carrier[] = ['cookie', 'basic', 'certificate', 'address'];
  const tokens: readonly Carrier[] = ['authorization', 'x_api_key', 'x_guardbee_token', 'subprotocol'];
  const methods = ['GET', 'HEAD', 'OPTIONS', 'POST', 'PUT', 'PATCH', 'DELETE', 'PROPFIND', 'QUERY'];
  for (const safe of [true, false]) {
    for (const upgrade of [true, false]) {
      for (const method of upgrade ? ['GET'] : methods) {
        const matters = !safe || upgrade || !['GET', 'HEAD', 'OPTIONS'].includes(method);
        test(`${method}${upgrade ? ' upgrade' : ''} on a route that is ${safe ? '' : 'not '}safe`, () => {
          for (const carrier of ambient) {
            assert.equal(asked(carrier, method, safe, upgrade, 'https://evil.example'), matters, carrier);
            assert.equal(asked(carrier, method, safe, upgrade, 'https://queen.lan'), false, carrier);
            assert.equal(asked(carrier, method, safe, upgrade, null), matters && carrier === 'cookie', carrier);
          }
          for (const carrier of tokens)
            assert.equal(asked(carrier, method, safe, upgrade, 'https://evil.example'), false);
        });
      }
    }
  }
});

test('our cookies are taken out, the others stay byte for byte', () => {
  for (const [field, rest] of [
    ['a=1; b=2', 'a=1; b=2'],
    ['__Host-guardbee-web=x', null],
    ['__Host-guardbee-web=x;', null],
    ['a=1;__Host-guardbee-web=x', 'a=1'],
    ['__Host-guardbee-web=x;  a=1', 'a=1'],
    ['a=1;  __Host-guardbee-web=x ;b="2;c" ; ', 'a=1;b="2;c" ; '],
    ['__Host-guardbee-a=x; __Host-guardbee-b=y; __Host-guardbee-a=z; c=\x80', 'c=\x80'],
    ['a=__Host-guardbee-web=x', 'a=__Host-guardbee-web=x'],
    ['\t__Host-guardbee-web; a', 'a'],
  ] as const) {
    assert.equal(withoutSessionCookies(field), rest, field);
  }
  assert.equal(setsSessionCookie('__host-GUARDBEE-web=x; Path=/'), true);
  assert.equal(setsSessionCookie('theirs=__Host-guardbee-web'), false);
});

test('who wants to read HTML says so', () => {
  for (const accept of ['text/html', 'TEXT/HTML;q=0.1', 'a/b, text/html ; q=1.0', 'application/xhtml+xml']) {
    assert.equal(prefersHtml(accept), true, accept);
  }
  for (const accept of [null, '', '*/*', 'text/*', 'application/json', 'text/html;q=0', 'text/html; q=0.000']) {
    assert.equal(prefersHtml(accept), false, String(accept));
  }
});

test('a form is read one way', () => {
  const known = new Set(['a', 'b']);
  const read = (text: string) => parseForm(Buffer.from(text, 'latin1'), known);
  assert.deepEqual(
    [...(read('a=%C3%A4+%2b&b=') ?? [])],
    [
      ['a', 'ä +'],
      ['b', ''],
    ],
  );
  assert.deepEqual(read(''), new Map());
  for (const text of [
    'a',
    '&',
    'a=1&',
    'a=1&a=2',
    'c=1',
    'a=%',
    'a=%zz',
    'a=%C3',
    'a=\x00',
    'a=1;b=2&a',
    '%61=1&a=2',
  ]) {
    assert.equal(read(text), null, text);
  }
});

test('one goes on to a path of this origin', () => {
  for (const next of ['/', '/a', '/a?b=https://evil.example/', '/a/b%20c']) assert.equal(pathToGoOn(next), next);
  for (const next of [
    '',
    'a',
    '//a',
    '/\\a',
    '/%5ca',
    '/a/../b',
    '/.guardbee/login',
    '/a#b',
    '/\u00e4',
    null,
    undefined,
  ]) {
    assert.equal(pathToGoOn(next), null, String(next));
  }
  assert.equal(readOrigin('https://a/b'), null);
});
