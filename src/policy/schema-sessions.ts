/** What may stand under `sessions:` of a listener. */
import { z } from 'zod';
import { ORIGIN_FORM, parseOrigin } from './origin.js';
import { duration, list, map, names, scalar, secret, text } from './schema-scalars.js';

export const origins = list(
  scalar(ORIGIN_FORM, 'wrong_value', parseOrigin).meta({ pattern: '^https?://[^/]+$', examples: ['https://app.lan'] }),
  'origins',
);

export const sessions = map('a map such as { login_with: [NAME] }', {
  login_with: names.meta({ description: 'Authenticators whose credentials may log in' }),
  lifetime: duration.optional().meta({ description: 'From login to the end' }),
  same_site: z.enum(['strict', 'lax'], { error: 'strict or lax' }).optional(),
  keys: list(secret, 'secrets').optional().meta({ description: 'The first signs, all verify' }),
  title: text('a text for the login page', 64).optional(),
}).meta({ id: 'sessions', description: 'Browser sessions: a credential shown once becomes a cookie' });

export type SessionsEntry = z.output<typeof sessions>;
