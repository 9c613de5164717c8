/** What may stand under `tls:` of a listener. */
import { z } from 'zod';
import { filePath, hostName, list, map } from './schema-scalars.js';

const certificateFiles = { cert: filePath, key: filePath };
const TLS_FORM =
  '{ cert: FILE, key: FILE }, { certificates: [{ cert: FILE, key: FILE }] } or { self_signed: { names: [NAME] } }';
export const tls = z
  .union(
    [
      map(TLS_FORM, certificateFiles),
      map(TLS_FORM, {
        certificates: list(map('a map such as { cert: FILE, key: FILE }', certificateFiles), 'certificates'),
      }),
      map(TLS_FORM, {
        self_signed: map('a map such as { names: [queen.lan] }', { names: list(hostName, 'host names and addresses') }),
      }),
    ],
    { error: TLS_FORM },
  )
  .meta({ id: 'tls', description: 'Certificate files, several picked by SNI, or a self-signed certificate' });

export type TlsEntry = z.output<typeof tls>;
