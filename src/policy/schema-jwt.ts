/** What may stand under an authenticator of type `jwt`. */
import { z } from 'zod';
import { DURATION_FORM, parseDuration } from './duration.js';
import { JWS_ALGORITHMS, isJwsAlgorithm } from './jws-algorithms.js';
import { namesLoopback } from './loopback-name.js';
import { type Parsed, parsed, refused } from './parsed.js';
import { TOKEN_CARRIERS } from './policy.js';
import { duration, filePath, list, map, name, realm, scalar, text } from './schema-scalars.js';

export const JWT_FORM = 'a map such as { type: jwt, issuer: URL, audience: [NAME], jwks: { url: URL } }';

const ISSUER_FORM = 'the issuer as the tokens name it in iss, such as https://idp.example.com';
const issuer = text(ISSUER_FORM, 512).meta({ description: ISSUER_FORM });
const AUDIENCE_FORM = 'what the tokens name in aud, a text or a list of them';
const audience = text(AUDIENCE_FORM, 512);

const URL_FORM = 'an https URL such as https://idp.example.com/jwks';

/** Whoever can change the keys on their way here makes tokens; so only TLS, or this machine. */
function parseKeysUrl(value: string): Parsed<string> {
  if (!/^https?:\/\/[^\s\p{Cc}\\]+$/u.test(value) || !URL.canParse(value)) return refused(`allowed is ${URL_FORM}`);
  const url = new URL(value);
  if (url.username !== '' || url.password !== '') {
    return refused('a user name or password does not belong into a URL: keys are public', 'leave it out');
  }
  if (url.hash !== '') return refused('a fragment does not belong here', 'leave out what begins with "#"');
  if (url.protocol === 'http:' && !namesLoopback(url.hostname)) {
    return refused(
      'without TLS whoever is on the way can put keys of their own in place; allowed is https, or http to this machine (127.0.0.1, [::1], localhost)',
      'write https://…, or jwks: { file: PATH }',
    );
  }
  return parsed(url.href);
}

const keysUrl = scalar(URL_FORM, 'wrong_value', parseKeysUrl).meta({ pattern: '^https?://', description: URL_FORM });

const JWKS_FORM = '{ url: URL } or { file: PATH }';
const jwks = z
  .union([map(JWKS_FORM, { url: keysUrl }), map(JWKS_FORM, { file: filePath })], { error: JWKS_FORM })
  .meta({ description: 'A JWK Set (RFC 7517), fetched or from a file' });

const ALGORITHM_FORM = `one of ${JWS_ALGORITHMS.join(', ')}`;
const algorithm = scalar(ALGORITHM_FORM, 'wrong_value', (value) => {
  if (isJwsAlgorithm(value)) return parsed(value);
  if (/^HS\d+$/i.test(value)) {
    return refused(
      `it needs a secret that the issuer and guardbee share, and whoever can check such a token can make one; allowed is ${ALGORITHM_FORM}`,
      'let the issuer sign with a key pair, and list that algorithm',
    );
  }
  if (/^none$/i.test(value)) return refused(`it is no signature at all; allowed is ${ALGORITHM_FORM}`);
  const meant = JWS_ALGORITHMS.find((one) => one.toLowerCase() === value.toLowerCase());
  return refused(`allowed is ${ALGORITHM_FORM}`, meant === undefined ? undefined : `write ${meant}`);
}).meta({ enum: [...JWS_ALGORITHMS] });

const MOST_TOLERANCE_MS = 600_000;
const TOLERANCE_FORM = 'a duration of 10m or less, or none';
const tolerance = scalar(`${DURATION_FORM}, or none`, 'bad_duration', (value) => {
  if (value === 'none') return parsed(0);
  const read = parseDuration(value);
  if (!read.ok || read.value <= MOST_TOLERANCE_MS) return read;
  return refused(
    'for so long after its end no token should be good; allowed is 10m or less',
    'set the clocks right (NTP), and write 5m or less',
  );
}).meta({ description: TOLERANCE_FORM, examples: ['5m', '30s', 'none'] });

const CLAIM_FORM =
  'the name of a claim such as roles, a path such as realm_access.roles, or a list of names whose dots are part of them';
const MEMBER = /^[\x21-\x7e]{1,256}$/;
const claim = z
  .union(
    [
      scalar(CLAIM_FORM, 'wrong_value', (value) => {
        if (value.includes('://')) {
          return refused(
            'a text is cut at its dots, and a URL has some that are part of it',
            'write it as a list of one: ["https://…"]',
          );
        }
        const path = value.split('.');
        return path.every((one) => MEMBER.test(one)) && path.length <= 8
          ? parsed(path)
          : refused('allowed are up to 8 names, with dots between them and without blanks');
      }),
      list(
        scalar('the name of a member', 'wrong_value', (value) =>
          MEMBER.test(value) ? parsed(value) : refused('allowed are printable ASCII characters without blanks'),
        ),
        'names, from the outermost in',
      ).max(8, { error: 'a list of 8 names at most' }),
    ],
    { error: CLAIM_FORM },
  )
  .meta({ description: CLAIM_FORM });

const STORE_FORM = 'embedded or shared';
const store = z.enum(['embedded', 'shared'], { error: STORE_FORM });
const REVOCATION_FORM = 'embedded, shared, none, or a map such as { store: shared, on_unavailable: deny }';
const KEY_FORM = 'a key with {jti} in it, such as jwt:revoked:{jti}';
const revocation = z
  .union(
    [
      z.enum(['embedded', 'shared', 'none'], { error: REVOCATION_FORM }),
      map(REVOCATION_FORM, {
        store,
        key: scalar(KEY_FORM, 'wrong_value', (value) => {
          if (!/^[\x21-\x7e]{1,200}$/.test(value)) return refused('allowed are printable ASCII characters');
          if (!value.includes('{jti}')) return refused('without {jti} one key would stand for all tokens');
          const rest = value.replaceAll('{jti}', '').replaceAll('{issuer}', '');
          return /[{}]/.test(rest) ? refused('only {jti} and {issuer} are filled in') : parsed(value);
        }).optional(),
        on_unavailable: z.enum(['deny', 'allow'], { error: 'deny or allow' }).optional(),
      }),
    ],
    { error: REVOCATION_FORM },
  )
  .meta({ description: 'Where it is looked up whether a token was revoked' });

export const jwtAuthenticator = map(JWT_FORM, {
  type: z.literal('jwt'),
  issuer,
  audience: z.union([audience, list(audience, 'audiences')], { error: AUDIENCE_FORM }),
  jwks: jwks.optional(),
  public_key: map('{ file: PATH }', { file: filePath })
    .optional()
    .meta({ description: 'One public key or certificate in PEM' }),
  algorithms: list(algorithm, 'algorithms').optional(),
  clock_tolerance: tolerance.optional(),
  max_age: duration.optional(),
  name_from: claim.optional(),
  roles_from: claim.optional(),
  permissions_from: claim.optional(),
  roles_map: z
    .record(text('what the issuer calls a role', 256), name, {
      error: 'a map of what the issuer calls a role to a role of this policy',
    })
    .optional(),
  carriers: list(z.enum(TOKEN_CARRIERS, { error: `one of ${TOKEN_CARRIERS.join(', ')}` }), 'carriers').optional(),
  realm: realm.optional(),
  revocation: revocation.optional(),
}).meta({ oneOf: [{ required: ['jwks'] }, { required: ['public_key'] }] });

export type JwtEntry = z.output<typeof jwtAuthenticator>;
