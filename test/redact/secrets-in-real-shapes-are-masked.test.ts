/**
 * Secrets in the shapes in which logs show them. All are made here, when the test runs: no scanner of repositories
 * finds one, and none is the one that the finders were written for.
 */
import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { describe, test } from 'node:test';
import { lineByLine, searchThatKnows, streamed } from './streams.js';

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

let made = 0;

/** The same at each run: how many of them look like words does not depend on luck. */
function randomBytes(length: number): Buffer {
  const blocks: Buffer[] = [];
  for (let have = 0; have < length; have += 32) {
    made++;
    blocks.push(
      createHash('sha256')
        .update(`secrets of this test ${String(made)}`)
        .digest(),
    );
  }
  return Buffer.concat(blocks).subarray(0, length);
}

/** Of these characters. */
function some(length: number, characters = LETTERS): string {
  return [...randomBytes(length)].map((byte) => characters[byte % characters.length]).join('');
}

const upper = (length: number): string => some(length, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567');
const hex = (length: number): string => randomBytes(length).toString('hex').slice(0, length);
const base64 = (bytes: number): string => randomBytes(bytes).toString('base64');
const base64url = (bytes: number): string => randomBytes(bytes).toString('base64url');
const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const jwt = (): string =>
  `${part({ alg: 'RS256', kid: some(6) })}.${part({ sub: some(8), exp: 1_900_000_000 })}.${base64url(64)}`;
const pem = (): string =>
  String(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' })).trim();
/** As people choose them. */
const password = (): string => `${some(4)}-${some(3)}!${some(2)}`;

/** Makers of secrets that are known by what they look like, wherever they stand. */
const SHAPES: Readonly<Record<string, () => string>> = {
  'our own': () => `gbee_${base64url(32)}`,
  JWT: jwt,
  'AWS access key': () => `AKIA${upper(16)}`,
  'AWS session key': () => `ASIA${upper(16)}`,
  'AWS secret key': () => base64(30),
  'GitHub classic': () => `ghp_${some(36)}`,
  'GitHub app': () => `ghs_${some(36)}`,
  'GitHub fine-grained': () => `github_pat_${some(22)}_${some(59)}`,
  'Hugging Face': () => `hf_${some(34)}`,
  OpenAI: () => `sk-${some(48)}`,
  'OpenAI project': () => `sk-proj-${base64url(60)}`,
  Anthropic: () => `sk-ant-api03-${base64url(70)}`,
  'Slack bot': () => `xoxb-${some(12, '0123456789')}-${some(12, '0123456789')}-${some(24)}`,
  'Slack app': () => `xapp-1-${upper(11)}-${some(13, '0123456789')}-${hex(64)}`,
  GitLab: () => `glpat-${some(20)}`,
  'Stripe live': () => `sk_live_${some(24)}`,
  'Stripe restricted': () => `rk_live_${some(24)}`,
  Google: () => `AIza${base64url(27).slice(0, 35)}`,
  npm: () => `npm_${some(36)}`,
  'hex of 32 bytes': () => hex(64),
  'base64url of 32 bytes': () => base64url(32),
};

/** Where secrets of any shape stand. */
const PLACES: Readonly<Record<string, (secret: string) => string>> = {
  alone: (s) => s,
  'in a sentence': (s) => `2026-07-29T12:00:00Z WARN using ${s}, which will expire.`,
  'in brackets': (s) => `[auth] (${s}) <${s}> [${s}]`,
  'in a path': (s) => `GET /v1/tokens/${encodeURIComponent(s)}/info HTTP/1.1`,
  'in a query': (s) => `GET /v1/x?a=1&value=${encodeURIComponent(s)}&b=2 HTTP/1.1`,
  'in JSON': (s) => JSON.stringify({ level: 'info', value: s, n: 1 }),
  'in JSON in JSON': (s) => JSON.stringify({ log: JSON.stringify({ value: s, n: 1 }), stream: 'stderr' }),
  'in YAML': (s) => `  value: ${s}`,
  'in an environment': (s) => `export HF_HOME=/x VALUE=${s} && run`,
  'in quotes of Python': (s) => `{'value': '${s}', 'n': None}`,
  'in a Rust debug print': (s) => `Config { value: "${s}", port: 7833 }`,
  'in a Go struct': (s) => `{Value:${s} Port:7833}`,
  'in an HTML attribute': (s) => `<meta content="${s}">`,
  'in the colours of a terminal': (s) => `\u001b[3mvalue\u001b[0m\u001b[2m=\u001b[0m${s}\u001b[0m done`,
};

/** Places of which the name says that a secret stands there, whatever it looks like: a password that somebody chose. */
const NAMED: Readonly<Record<string, (secret: string) => string>> = {
  'bearer in a field': (s) => `Authorization: Bearer ${s}`,
  'basic in a field': (s) => `authorization: Basic ${Buffer.from(`bob:${s}`).toString('base64')}`,
  'token in a field': (s) => `Authorization: token ${s}`,
  'an API key in a field': (s) => `X-Api-Key: ${s}`,
  'the trace of curl': (s) => `> Authorization: Bearer ${s}\r`,
  'the trace of curl, HTTP/2': (s) => `* [HTTP/2] [1] [authorization: Bearer ${s}]`,
  'the command line of curl': (s) => `curl -H 'Authorization: Bearer ${s}' https://x.example/`,
  'an option': (s) => `vllm serve --model x --api-key ${s} --port 8000`,
  'an option with a sign': (s) => `run --db-password=${s} --verbose`,
  'a URL': (s) => `connecting to postgres://rbee:${s}@db.lan:5432/rbee`,
  'a URL without a user': (s) => `redis://:${s}@cache:6379/0`,
  'a cookie': (s) => `Cookie: theme=dark; sid=${s}; lang=en`,
  'a cookie that is set': (s) => `< Set-Cookie: sid=${s}; Path=/; HttpOnly`,
  'an environment variable': (s) => `HF_TOKEN=${s}`,
  'an exported one': (s) => `export DB_PASSWORD='${s}'`,
  'an ini file': (s) => `password = ${s}`,
  'a YAML file': (s) => `    client_secret: "${s}"`,
  'a YAML file without quotes': (s) => `api_key: ${s}`,
  'a properties file': (s) => `spring.datasource.password=${s}`,
  JSON: (s) => JSON.stringify({ user: 'bob', password: s, n: 1 }),
  'JSON in JSON': (s) => JSON.stringify({ msg: JSON.stringify({ auth: { api_key: s }, n: 1 }) }),
  'JSON in JSON in JSON': (s) => JSON.stringify({ log: JSON.stringify({ msg: JSON.stringify({ token: s }) }) }),
  'a Python dict': (s) => `{'user': 'bob', 'password': '${s}', 'n': None}`,
  'the representation of a Python object': (s) => `Settings(host='x', api_key='${s}', port=1)`,
  'a Python header': (s) => `send: b'GET / HTTP/1.1\\r\\nAuthorization: Bearer ${s}\\r\\n\\r\\n'`,
  'a Go map': (s) => `map[password:${s} user:bob]`,
  'a Go struct': (s) => `{User:bob Password:${s} Port:5432}`,
  'a Go struct, quoted': (s) => `Config{User:"bob", Password:"${s}"}`,
  'Go headers': (s) => `map[Authorization:[Bearer ${s}] Accept:[*/*]]`,
  'a Rust debug print': (s) => `Credentials { user: "bob", password: "${s}" }`,
  'a Rust Some': (s) => `Config { api_key: Some("${s}"), port: 1 }`,
  'a Python secret': (s) => `Settings(password=SecretStr('${s}'), port=1)`,
  'bytes of Python': (s) => `{b'password': b'${s}', b'n': 1}`,
  'Rust tracing': (s) => `\u001b[3mapi_key\u001b[0m\u001b[2m=\u001b[0m"${s}" \u001b[3mn\u001b[0m=1`,
  'a form': (s) => `body: user=bob&password=${encodeURIComponent(s)}&n=1`,
  'a query': (s) => `GET /login?user=bob&access_token=${encodeURIComponent(s)} HTTP/1.1`,
  'an encoded query': (s) => `next=${encodeURIComponent(`/x?token=${s}&n=1`)}`,
  'one encoded twice': (s) => `next=${encodeURIComponent(encodeURIComponent(`/x?token=${s}&n=1`))}`,
  'raw header lists': (s) => `[ 'Host', 'x', 'Authorization', 'Bearer ${s}' ]`,
  'a WebSocket': (s) => `Sec-WebSocket-Protocol: bearer, ${s}`,
};

/** Is as much as a quarter of the secret left in one piece, or it is a word of eight characters? */
function shows(out: string, secret: string): boolean {
  const longest = Math.max(6, Math.ceil(secret.length / 4));
  for (let at = 0; at + longest <= secret.length; at++) if (out.includes(secret.slice(at, at + longest))) return true;
  return false;
}

function redact(text: string): string {
  const search = searchThatKnows();
  const bytes = Buffer.from(`${text}\n`);
  const out = streamed(search, [bytes]);
  assert.ok(out.equals(lineByLine(search, bytes)), 'the fast path sees what the slow one sees');
  return out.toString();
}

const ROUNDS = 20;

describe('secrets that look like what they are', () => {
  for (const [shape, make] of Object.entries(SHAPES)) {
    test(shape, () => {
      for (const [place, put] of Object.entries(PLACES)) {
        for (let round = 0; round < ROUNDS; round++) {
          const secret = make();
          const out = redact(put(secret));
          assert.ok(!shows(out, secret), `${place}: ${out}`);
        }
      }
    });
  }
});

describe('secrets that stand where their name is', () => {
  for (const [place, put] of Object.entries(NAMED)) {
    test(place, () => {
      for (const make of [password, ...Object.values(SHAPES)]) {
        for (let round = 0; round < 5; round++) {
          const secret = make();
          const out = redact(put(secret));
          assert.ok(!shows(out, secret), out);
          if (place === 'basic in a field') assert.doesNotMatch(out, /Basic [A-Za-z0-9+/]{6}/);
        }
      }
    });
  }
});

describe('keys in PEM', () => {
  const lines = pem().split('\n');
  for (const [title, text] of Object.entries({
    'over lines': lines.join('\n'),
    'with line ends of Windows': lines.join('\r\n'),
    'after a name': `key: ${lines.join('\n')}`,
    'indented, in YAML': `tls.key: |\n  ${lines.join('\n  ')}`,
    'each line with a prefix': lines.map((line) => `Jul 29 12:00:00 host app[1]: ${line}`).join('\n'),
    'in JSON': JSON.stringify({ key: lines.join('\n') }),
    'in the representation of a Python string': `'${lines.join('\\n')}'`,
  })) {
    test(title, () => {
      const out = redact(`before\n${text}\nafter`);
      for (const line of lines.slice(1, -1)) assert.ok(!shows(out, line), out);
      assert.match(out, /^before\n/);
      assert.match(out, /\nafter\n$/);
      assert.equal(out.split('\n').length, text.split('\n').length + 3);
    });
  }
});
