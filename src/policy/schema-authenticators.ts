/** What may stand under `authenticators:`, and in a tokens file. */
import { z } from 'zod';
import { CN_FORM, SAN_FORM, SPKI_FORM, parseCommonName, parseSan, parseSpkiPin } from './certificate-name.js';
import { NETWORK_HOST_FORM, parseNetworkHost } from './network-host.js';
import { parsed, refused } from './parsed.js';
import { TOKEN_CARRIERS } from './policy.js';
import { basicAuthenticator } from './schema-basic.js';
import { jwtAuthenticator } from './schema-jwt.js';
import { date, filePath, list, map, name, names, realm, scalar, secret } from './schema-scalars.js';

const EMPTY_DIGEST = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const HASH = 'run "guardbee token hash", give it the token, and paste what it prints';
const MINT = 'run "guardbee token new"';

export const token = map('a map such as { name: NAME, sha256: DIGEST, roles: [ROLE] }', {
  name,
  sha256: scalar('the SHA-256 of a token: 64 hex digits', 'bad_token', (value) => {
    if (/^[0-9a-f]{64}$/i.test(value)) {
      return value.toLowerCase() === EMPTY_DIGEST
        ? refused('this is the digest of an empty text', MINT)
        : parsed(value.toLowerCase());
    }
    if (/^sha-?256:/i.test(value))
      return refused('allowed are the 64 hex digits alone', 'leave out what stands before the colon');
    if (/^[0-9a-f]{65,}$|^[0-9a-f]{40,63}$/i.test(value)) {
      return refused('a SHA-256 has 64 hex digits', HASH);
    }
    return refused('allowed is the SHA-256 of a token (64 hex digits), never the token itself', HASH);
  })
    .meta({ pattern: '^[0-9A-Fa-f]{64}$' })
    .optional(),
  token: secret.optional().meta({ description: 'Where the token stands, in place of its digest' }),
  roles: names.optional(),
  permissions: names.optional(),
  not_before: date.optional(),
  not_after: date.optional(),
}).meta({
  id: 'token',
  allOf: [
    { oneOf: [{ required: ['sha256'] }, { required: ['token'] }] },
    { anyOf: [{ required: ['roles'] }, { required: ['permissions'] }] },
  ],
});

export const tokens = list(token, 'tokens');

const GRANTED = [{ required: ['roles'] }, { required: ['permissions'] }];

/** Who is known without a list of tokens: a name, and what it may. */
export const localIdentity = map('a map such as { name: local, roles: [ROLE] }', {
  name,
  roles: names.optional(),
  permissions: names.optional(),
}).meta({ description: 'Everyone on this machine who shows no credential', anyOf: GRANTED });

const certificateIdentity = map('a map such as { san: "DNS:hive-1.lan", name: hive-1, roles: [ROLE] }', {
  san: scalar(SAN_FORM, 'bad_identity', parseSan).meta({ pattern: '^(DNS|URI|email):' }).optional(),
  cn: scalar(CN_FORM, 'bad_identity', parseCommonName).optional(),
  spki: scalar(SPKI_FORM, 'bad_identity', parseSpkiPin).meta({ pattern: '^sha256/' }).optional(),
  name,
  roles: names.optional(),
  permissions: names.optional(),
}).meta({
  allOf: [{ anyOf: GRANTED }, { oneOf: [{ required: ['san'] }, { required: ['cn'] }, { required: ['spki'] }] }],
});

const networkIdentity = map('a map such as { from: 192.168.1.7, name: hive-1, roles: [ROLE] }', {
  from: scalar(NETWORK_HOST_FORM, 'bad_identity', parseNetworkHost),
  name,
  roles: names.optional(),
  permissions: names.optional(),
}).meta({ anyOf: GRANTED });

const AUTHENTICATOR_FORM = 'a map such as { type: bearer, tokens_file: FILE }';
export const authenticator = z.discriminatedUnion(
  'type',
  [
    map(AUTHENTICATOR_FORM, {
      type: z.literal('bearer'),
      tokens: tokens.optional(),
      tokens_file: filePath.optional(),
      carriers: list(z.enum(TOKEN_CARRIERS, { error: `one of ${TOKEN_CARRIERS.join(', ')}` }), 'carriers').optional(),
      realm: realm.optional(),
    }).meta({ anyOf: [{ required: ['tokens'] }, { required: ['tokens_file'] }] }),
    jwtAuthenticator,
    map('a map such as { type: mtls, ca: FILE, identities: [{ san: "DNS:NAME", name: NAME, roles: [ROLE] }] }', {
      type: z.literal('mtls'),
      ca: filePath,
      crl: filePath.optional(),
      identities: list(certificateIdentity, 'identities'),
      realm: realm.optional(),
    }),
    map('a map such as { type: network, identities: [{ from: 192.168.1.7, name: NAME, roles: [ROLE] }] }', {
      type: z.literal('network'),
      identities: list(networkIdentity, 'identities'),
      realm: realm.optional(),
    }),
    basicAuthenticator,
  ],
  { error: AUTHENTICATOR_FORM },
);
