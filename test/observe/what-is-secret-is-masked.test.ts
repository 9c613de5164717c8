import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { masked, redactorThatKnows } from './known-tokens.js';

const WORDS = 'correct-horse-battery';
const DOTTED = 'my.own.token.of.words';
const BASE64 = 'abcd/EFGH1+jklmnopqrst/v==';
const ODD = 'my!secret#key$with(odd)';
const UUID = '6f9619ff-8b86-4d01-b42d-00c04fc964ff';
const SHOWN = 'x9Fq2-LmZ80aVtR4_kPwQ7';
const JWT = 'eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJib2IifQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1g';
const PEM = '-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIE\nabc=\n-----END EC PRIVATE KEY-----';
const redactor = redactorThatKnows(WORDS, DOTTED, BASE64, ODD, UUID);

/** Text, and what becomes of it. */
const CASES: readonly (readonly [title: string, text: string, expected: string])[] = [
  // Credentials in fields.
  ['a bearer token in its field', `Authorization: Bearer ${SHOWN}`, `Authorization: Bearer ${masked(SHOWN)}`],
  ['one in lower case', `authorization: bearer ${SHOWN}`, `authorization: bearer ${masked(SHOWN)}`],
  ['a short one has no fingerprint', 'Authorization: Bearer hunter2', 'Authorization: Bearer [redacted]'],
  ['basic', 'Authorization: Basic Ym9iOmh1bnRlcjI=', 'Authorization: Basic [redacted]'],
  [
    'digest, to the end of the line',
    'Authorization: Digest username="bob", response="6629fae4"\nx',
    `Authorization: Digest ${masked('username="bob", response="6629fae4"')}\nx`,
  ],
  ['a scheme nobody knows may be the secret', 'authorization: hunter two', 'authorization: [redacted]'],
  ['in JSON', `{"authorization":"Bearer ${SHOWN}","n":1}`, `{"authorization":"Bearer ${masked(SHOWN)}","n":1}`],
  [
    'in a list of raw fields',
    "[ 'authorization', 'Bearer hunter2', 'x' ]",
    "[ 'authorization', 'Bearer [redacted]', 'x' ]",
  ],
  ['after the key, in a list', `"X-Api-Key", "abc"`, `"X-Api-Key", "[redacted]"`],
  ['an API key', 'x-api-key: abc123', 'x-api-key: [redacted]'],
  ['a scheme without its field', 'sent Bearer hunter2, refused', 'sent Bearer [redacted], refused'],
  [
    'a subprotocol',
    `sec-websocket-protocol: bearer, gbee_abcdefgh12345678`,
    `sec-websocket-protocol: bearer, ${masked('gbee_abcdefgh12345678')}`,
  ],
  ['basic without its field', 'sent Basic Ym9iOmh1bnRlcjI= once', 'sent Basic [redacted] once'],
  [
    'cookies, by name',
    'Cookie: theme=dark; sid=abcdefghijklmnop',
    `Cookie: theme=[redacted]; sid=${masked('abcdefghijklmnop')}`,
  ],
  [
    'a cookie that is set',
    'Set-Cookie: sid=abc; Path=/; HttpOnly; SameSite=Lax',
    'Set-Cookie: sid=[redacted]; Path=/; HttpOnly; SameSite=Lax',
  ],
  // Keys and values.
  ['password=', 'password=hunter2&user=bob', 'password=[redacted]&user=bob'],
  ['password:', 'password: hunter2, user: bob', 'password: [redacted], user: bob'],
  [
    'pwd, passwd, secret, token, key',
    'pwd=a passwd=b secret=c token=d key=e',
    'pwd=[redacted] passwd=[redacted] secret=[redacted] token=[redacted] key=[redacted]',
  ],
  [
    'names in camel case',
    'apiKey=a accessToken=b clientSecret: c',
    'apiKey=[redacted] accessToken=[redacted] clientSecret: [redacted]',
  ],
  ['names of environment variables', 'PGPASSWORD=a MY_API_KEY=b', 'PGPASSWORD=[redacted] MY_API_KEY=[redacted]'],
  ['a quoted value', 'secret="a b c" next', 'secret="[redacted]" next'],
  [
    'a JSON value with an escaped quote',
    '{"password":"hun\\"ter2","user":"bob"}',
    '{"password":"[redacted]","user":"bob"}',
  ],
  [
    'JSON inside JSON',
    '{"m":"{\\"token\\":\\"ab\\\\\\"cd\\",\\"x\\":1}"}',
    '{"m":"{\\"token\\":\\"[redacted]\\",\\"x\\":1}"}',
  ],
  ['a JSON number stays JSON', '{"token":1234}', '{"token":"[redacted]"}'],
  ['a list', '{"token":["a","b"],"c":["d"]}', '{"token":["[redacted]","[redacted]"],"c":["d"]}'],
  [
    "as Ruby and Rust's debug print",
    'token => "abc", Secret { key: "abc" }',
    'token => "[redacted]", Secret { key: "[redacted]" }',
  ],
  [
    'between the colours of a terminal',
    '\u001b[3mtoken\u001b[0m\u001b[2m=\u001b[0m"abc"',
    '\u001b[3mtoken\u001b[0m\u001b[2m=\u001b[0m"[redacted]"',
  ],
  [
    'a command line',
    'run --api-key abc --token=def --verbose',
    'run --api-key [redacted] --token=[redacted] --verbose',
  ],
  ['a passphrase to its end', 'passphrase: correct horse battery', 'passphrase: [redacted]'],
  [
    'a field in a line of JSON ends with its string',
    '{"m":"authorization: some thing","ok":true}',
    '{"m":"authorization: [redacted]","ok":true}',
  ],
  // Shapes.
  ['a JWT', `got ${JWT}.`, `got ${masked(JWT)}.`],
  ['the beginning of a JWT', `got ${JWT.slice(0, 30)}`, `got ${masked(JWT.slice(0, 30))}`],
  ['a PEM block', `key\n${PEM}\nend`, `key\n${masked(PEM)}\nend`],
  ['a PEM block without an end', `a ${PEM.slice(0, 50)}`, `a ${masked(PEM.slice(0, 50))}`],
  [
    'a PEM block in JSON',
    JSON.stringify({ pem: PEM }),
    JSON.stringify({ pem: '?' }).replace('?', masked(PEM.replaceAll('\n', '\\n'))),
  ],
  ['a password in a URL', 'postgres://bob:hunter2@db:5432/x', 'postgres://bob:[redacted]@db:5432/x'],
  ['one without a user', 'redis://:hunter2@cache', 'redis://:[redacted]@cache'],
  ['one with a slash', 'amqp://bob:hun/ter2@queue', 'amqp://bob:[redacted]@queue'],
  ['a user that is a token', 'https://ghtoken@example.com/', 'https://[redacted]@example.com/'],
  ['OpenAI', 'sk-proj-abcdefghijklmnop', masked('sk-proj-abcdefghijklmnop')],
  [
    'GitHub',
    'ghp_abcdefghijklmnopqrst gho_abcdefghijklmnopqrst',
    `${masked('ghp_abcdefghijklmnopqrst')} ${masked('gho_abcdefghijklmnopqrst')}`,
  ],
  ['GitHub, fine-grained', 'github_pat_abcdefghijklmnopqrst', masked('github_pat_abcdefghijklmnopqrst')],
  ['Hugging Face', 'hf_abcdefghijklmnopqrst', masked('hf_abcdefghijklmnopqrst')],
  ['AWS', 'AKIAIOSFODNN7EXAMPLE', masked('AKIAIOSFODNN7EXAMPLE')],
  ['Slack', 'xoxb-123456789012-abc', masked('xoxb-123456789012-abc')],
  ['our own', '/x/gbee_abcdefgh1234', `/x/${masked('gbee_abcdefgh1234')}`],
  // Known tokens, wherever they stand.
  ['a known token of words', `see ${WORDS}.`, `see ${masked(WORDS)}.`],
  ['in a path', `/v1/${WORDS}/x`, `/v1/${masked(WORDS)}/x`],
  ['as a value', `x=${WORDS}&y=1`, `x=${masked(WORDS)}&y=1`],
  ['with dots in it', `see ${DOTTED}, and (${DOTTED})`, `see ${masked(DOTTED)}, and (${masked(DOTTED)})`],
  ['in standard base64, with slashes, in a path', `/x/${BASE64}`, `/x/${masked(BASE64)}`],
  ['the same, percent-encoded', `/x/${encodeURIComponent(BASE64)}`, `/x/${masked(BASE64)}`],
  ['the same, encoded twice', `/x/${encodeURIComponent(encodeURIComponent(BASE64))}`, `/x/${masked(BASE64)}`],
  ['one letter of it encoded', `/x/%63${WORDS.slice(1)}`, `/x/${masked(WORDS)}`],
  ['with odd characters', `see ${ODD}.`, `see ${masked(ODD)}.`],
  ['with odd characters, as a value', `x=${ODD}`, `x=${masked(ODD)}`],
  ['a UUID that is a token', `/jobs/${UUID}/x`, `/jobs/${masked(UUID)}/x`],
  // Unknown, but random.
  ['base64url', `id ${SHOWN} end`, `id ${masked(SHOWN)} end`],
  ['standard base64', 'id Zm9v+yFq2LmZ80aVtR4/kPwQ7x1A== end', `id ${masked('Zm9v+yFq2LmZ80aVtR4/kPwQ7x1A==')} end`],
  ['hex', 'id deadbeefdeadbeefdeadbeefdeadbee1 end', `id ${masked('deadbeefdeadbeefdeadbeefdeadbee1')} end`],
  [
    'hex after a prefix',
    'sha256:9f86d081884c7d659a2feaa0c55ad015',
    `sha256:${masked('9f86d081884c7d659a2feaa0c55ad015')}`,
  ],
  // Encoded keys.
  ['an encoded equals sign', 'password%3Dhunter2', 'password=[redacted]'],
  ['an encoded space', 'Bearer%20hunter2', 'Bearer [redacted]'],
  // As JSON writers escape what base64 has in it (.NET, PHP).
  ['an escaped plus', '{"h":"Bearer QUJDRA\\u002Bhunter9"}', `{"h":"Bearer ${masked('QUJDRA\\u002Bhunter9')}"}`],
  ['an escaped slash', '{"h":"Bearer QUJDRA\\/hunter9"}', `{"h":"Bearer [redacted]"}`],
  // As grep and loggers colour it.
  [
    'a coloured key',
    '\x1b[01;31m\x1b[Kpassword\x1b[m\x1b[K=hunter2',
    '\x1b[01;31m\x1b[Kpassword\x1b[m\x1b[K=[redacted]',
  ],
  ['a coloured scheme', '\x1b[1mBearer\x1b[0m hunter2', '\x1b[1mBearer\x1b[0m [redacted]'],
  ['what is coloured after a scheme', 'Bearer \x1b[38:5:9mhunter2\x1b[0m', 'Bearer \x1b[38:5:9m[redacted]\x1b[0m'],
  ['a coloured key of three letters', '\x1b[3mkey\x1b[0m=hunter2', '\x1b[3mkey\x1b[0m=[redacted]'],
  ['a known token, coloured', `\x1b[1;31m${WORDS}\x1b[0m`, `\x1b[1;31m${masked(WORDS)}\x1b[0m`],
  ['a known token with odd characters, coloured', `\x1b[31m${ODD}\x1b[0m`, `\x1b[31m${masked(ODD)}\x1b[0m`],
  // Attempts to look masked already.
  ['a mask with something after it', 'token=[redacted:ab12cd]hunter2', `token=${masked('[redacted:ab12cd]hunter2')}`],
  [
    'a mask with something after it, quoted',
    '"token":"[redacted] hunter2"',
    `"token":"${masked('[redacted] hunter2')}"`,
  ],
];

describe('what is secret is masked', () => {
  for (const [title, text, expected] of CASES) {
    test(title, () => {
      assert.equal(redactor.mask(text), expected);
    });
  }
  test('what is masked once stays as it is', () => {
    for (const [title, , expected] of CASES) assert.equal(redactor.mask(expected), expected, title);
  });
});
