/** What may stand in an authenticator of type `basic`. */
import { z } from 'zod';
import { USER_FORM, parseUserName } from './htpasswd.js';
import { filePath, list, map, names, realm, scalar } from './schema-scalars.js';

const user = map('a map such as { name: NAME, roles: [ROLE] }', {
  name: scalar(USER_FORM, 'bad_name', parseUserName),
  roles: names.optional(),
  permissions: names.optional(),
}).meta({ anyOf: [{ required: ['roles'] }, { required: ['permissions'] }] });

export const basicAuthenticator = map('a map such as { type: basic, htpasswd_file: FILE, roles: [ROLE] }', {
  type: z.literal('basic'),
  htpasswd_file: filePath.meta({ description: 'As htpasswd -B writes it; mode 0600' }),
  roles: names.optional().meta({ description: 'Of every user that `users` does not name' }),
  permissions: names.optional().meta({ description: 'The same' }),
  users: list(user, 'users').optional().meta({ description: 'What one user has instead' }),
  realm: realm.optional(),
}).meta({ anyOf: [{ required: ['roles'] }, { required: ['permissions'] }, { required: ['users'] }] });

export type BasicEntry = z.output<typeof basicAuthenticator>;
