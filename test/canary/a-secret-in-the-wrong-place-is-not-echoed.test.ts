import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { perform } from '../cli/in-process.js';
import { writeFileIn, writePolicy } from '../support/policy-builder.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { Ear, makeCanaries, PASSWORD, type Canary } from './secrets.js';

const canaries: readonly Canary[] = [...makeCanaries(makeCanaries('')[9]?.value ?? ''), PASSWORD];

/** A policy that would be good, with these lines in it. */
const policy = (listener: string, top = ''): string => `version: 1
listeners:
  main:
    bind: 127.0.0.1:0
    upstream: http://127.0.0.1:1
    authenticate: [keys]
${listener}
    routes: [{ name: all, path: /**, require: read }]
authenticators:
  keys: { type: bearer, tokens: [{ name: keeper, sha256: ${'ab'.repeat(32)}, permissions: [read] }] }
state: { dir: state }
${top}
`;

/** Mistakes that people make with secrets in their hands. */
const MISTAKES: readonly (readonly [
  name: string,
  text: (secret: string) => string,
  prepare?: (directory: TemporaryDirectory, secret: string) => void,
])[] = [
  [
    'inline where a reference is asked for',
    (secret) => policy(`    upstream_auth: { type: bearer, token: "${secret}" }`),
  ],
  [
    'as the file of a reference',
    (secret) => policy(`    upstream_auth: { type: bearer, token: { file: "${secret}" } }`),
  ],
  [
    'as the name of a credential',
    (secret) => policy(`    upstream_auth: { type: bearer, token: { credential: "${secret}" } }`),
  ],
  ['as the name of a variable', (secret) => policy(`    upstream_auth: { type: bearer, token: { env: "${secret}" } }`)],
  ['as a token where its digest is asked for', (secret) => policy('').replace('ab'.repeat(32), `"${secret}"`)],
  ['in the place of a whole token', (secret) => policy('').replace(/tokens: \[\{.*\}\]/, `tokens: ["${secret}"]`)],
  ['as a key', (secret) => policy(`    "${secret}": true`)],
  ['as a key that stands twice', (secret) => policy(`    limits: { "${secret}": 1, "${secret}": 2 }`)],
  ['under a key that nobody knows', (secret) => policy(`    api_key: "${secret}"`)],
  [
    'in the upstream, as a user',
    (secret) => policy('').replace('127.0.0.1:1', `keeper:${encodeURIComponent(secret)}@127.0.0.1:1`),
  ],
  ['in the upstream, as a query', (secret) => policy('').replace('127.0.0.1:1', `127.0.0.1:1/?key=${secret}`)],
  ['as an address', (secret) => policy(`    allow_from: ["${secret}"]`)],
  ['as a name', (secret) => policy('').replace('name: keeper', `name: "${secret}"`)],
  ['in a line that is no YAML', (secret) => policy(`    upstream_auth: { type: bearer, token: "${secret}`)],
  ['behind a tab', (secret) => policy(`\ttoken: "${secret}"`)],
  ['as an anchor and an alias', (secret) => policy(`    hosts: [&a "${secret}", *a]`)],
  ['instead of a policy', (secret) => secret],
  [
    'in its file, with its name before it',
    () => policy('    upstream_auth: { type: bearer, token: { file: upstream.secret } }'),
    (directory, secret) => writeFileIn(directory, 'upstream.secret', `API_KEY=${secret}\n`),
  ],
  [
    'in its file, over two lines',
    () => policy('    upstream_auth: { type: bearer, token: { file: upstream.secret } }'),
    (directory, secret) => writeFileIn(directory, 'upstream.secret', `${secret}\n${secret}\n`),
  ],
  [
    'in its file, which others may read',
    () => policy('    upstream_auth: { type: bearer, token: { file: upstream.secret } }'),
    (directory, secret) => writeFileIn(directory, 'upstream.secret', secret, 0o644),
  ],
  [
    'in a file of tokens',
    () => policy('').replace(/tokens: \[\{.*\}\]/, 'tokens_file: tokens.yaml'),
    (directory, secret) => writeFileIn(directory, 'tokens.yaml', `tokens: [{ name: keeper, sha256: "${secret}" }]\n`),
  ],
  [
    'in a file of tokens that is no YAML',
    () => policy('').replace(/tokens: \[\{.*\}\]/, 'tokens_file: tokens.yaml'),
    (directory, secret) => writeFileIn(directory, 'tokens.yaml', `keeper: "${secret}\n`),
  ],
  [
    'in the place of a private key',
    () => policy('    tls: { cert: tls.crt, key: tls.key }'),
    (directory, secret) => {
      writeFileIn(directory, 'tls.crt', `-----BEGIN CERTIFICATE-----\n${secret}\n-----END CERTIFICATE-----\n`, 0o644);
      writeFileIn(directory, 'tls.key', `-----BEGIN PRIVATE KEY-----\n${secret}\n-----END PRIVATE KEY-----\n`);
    },
  ],
];

describe('a secret in the wrong place is not echoed', () => {
  const ear = new Ear(canaries);
  for (const [index, [name, text, prepare]] of MISTAKES.entries()) {
    for (const verb of ['check', 'run']) {
      test(`${name}, by ${verb}`, async () => {
        using directory = new TemporaryDirectory();
        // Each mistake with a different secret: which kind it is must not matter.
        const secret = canaries[index % canaries.length]?.value ?? '';
        prepare?.(directory, secret);
        const result = await perform(verb, '--policy', writePolicy(directory, text(secret)));
        assert.notEqual(result.code, 0, result.stdout);
        const output = result.stdout + result.stderr;
        assert.ok(output.length > 0);
        const songs = ear.hear(output);
        assert.equal(songs.length, 0, songs.map((song) => `${song.canary}\n    ${song.line}`).join('\n'));
      });
    }
  }
});
