/** What may stand under `acme:` of the policy. */
import { z } from 'zod';
import { type Parsed, parsed, refused } from './parsed.js';
import { ACME_CHALLENGES } from './policy.js';
import { filePath, list, map, scalar, secret, yes } from './schema-scalars.js';

const DIRECTORY_FORM =
  'the https URL of the directory of an ACME authority, such as https://acme-v02.api.letsencrypt.org/directory';

function parseDirectory(value: string): Parsed<string> {
  if (!/^https?:\/\/[^\s\p{Cc}\\]+$/u.test(value) || !URL.canParse(value)) {
    return refused(`allowed is ${DIRECTORY_FORM}`);
  }
  const url = new URL(value);
  if (url.protocol !== 'https:') {
    return refused(
      'ACME is spoken under TLS alone (RFC 8555 §6.1)',
      'write https://…; acme.ca names who vouches for it',
    );
  }
  if (url.username !== '' || url.password !== '') {
    return refused('a user name or password does not belong into a URL', 'write external_account');
  }
  if (url.hash !== '') return refused('a fragment does not belong here', 'leave out what begins with "#"');
  return parsed(url.href);
}

const EMAIL_FORM = 'an email address such as ops@example.com';
const email = scalar(EMAIL_FORM, 'wrong_value', (value) =>
  // What could end the address in a mailto URL (RFC 6068) is left out.
  value.length <= 254 && /^[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*$/.test(value)
    ? parsed(value)
    : refused(`allowed is ${EMAIL_FORM}`, value.startsWith('mailto:') ? 'leave out mailto:' : undefined),
);

const KEY_ID_FORM = 'the key identifier that the authority gave you';
const keyId = scalar(KEY_ID_FORM, 'wrong_value', (value) =>
  /^[\x21-\x7e]{1,512}$/.test(value) ? parsed(value) : refused(`allowed is ${KEY_ID_FORM}: printable ASCII, no blanks`),
);

const CHALLENGES_FORM = ACME_CHALLENGES.join(' or ');

export const acme = map('a map such as { directory: https://…/directory, terms_agreed: true }', {
  directory: scalar(DIRECTORY_FORM, 'wrong_value', parseDirectory).meta({
    pattern: '^https://',
    description: DIRECTORY_FORM,
  }),
  terms_agreed: yes.meta({ description: 'You agree to the terms of service of the authority' }),
  email: email.optional().meta({ description: 'Whom the authority may write to' }),
  challenges: list(z.enum(ACME_CHALLENGES, { error: CHALLENGES_FORM }), 'challenges')
    .optional()
    .meta({ description: 'How it is shown that a host is ours; unless said, each way that a listener can answer' }),
  ca: filePath
    .optional()
    .meta({ description: 'PEM: who vouches for the authority itself; without it those that Node comes with' }),
  external_account: map('a map such as { key_id: ID, key: { file: PATH } }', { key_id: keyId, key: secret })
    .optional()
    .meta({ description: 'What binds the account to one that you have with the authority (RFC 8555 §7.3.4)' }),
}).meta({ id: 'acme', description: 'The authority that listeners with tls: { acme: true } get their certificates of' });

export type AcmeEntry = z.output<typeof acme>;
