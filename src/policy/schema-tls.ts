/** What may stand under `tls:` of a listener. */
import { z } from 'zod';
import { filePath, hostName, list, map, yes } from './schema-scalars.js';

const certificateFiles = { cert: filePath, key: filePath };
const TLS_FORM =
  '{ cert: FILE, key: FILE }, { certificates: [{ cert: FILE, key: FILE }] }, { acme: true } or { self_signed: { names: [NAME] } }';
const ACME_FORM = 'true, or a map such as { hosts: [queen.example.com] }';
const acme = z.union([yes, map(ACME_FORM, { hosts: list(hostName, 'host names') })], { error: ACME_FORM });
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
      map(TLS_FORM, { acme }),
    ],
    { error: TLS_FORM },
  )
  .meta({
    id: 'tls',
    description:
      'Certificate files, several picked by SNI, certificates that an ACME authority issues for the hosts, or a self-signed certificate',
  });

export type TlsEntry = z.output<typeof tls>;
export type AcmeTlsEntry = z.output<typeof acme>;
