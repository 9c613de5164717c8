/** What an outbound listener says of the other end (`upstream_tls:`). */
import type { z } from 'zod';
import { SPKI_FORM, parseSpkiPin } from './certificate-name.js';
import { filePath, hostName, list, map, scalar } from './schema-scalars.js';

export const upstreamTls = map('a map such as { ca: FILE, client_certificate: { cert: FILE, key: FILE } }', {
  ca: filePath
    .optional()
    .meta({ description: 'PEM: who vouches for the upstream; without it those that Node comes with' }),
  client_certificate: map('{ cert: FILE, key: FILE }', { cert: filePath, key: filePath })
    .optional()
    .meta({ description: 'What guardbee shows of itself in TLS' }),
  server_name: hostName.optional().meta({
    description: 'The name that its certificate must be for and that Host gets; that of upstream unless said',
  }),
  spki: list(scalar(SPKI_FORM, 'bad_identity', parseSpkiPin).meta({ pattern: '^sha256/' }), 'pins')
    .optional()
    .meta({ description: 'Public keys of which the upstream must have one, besides being vouched for' }),
}).meta({ id: 'upstream_tls', description: 'Of an outbound listener: who its upstream must be, and what it is shown' });

export type UpstreamTlsEntry = z.output<typeof upstreamTls>;
