/** `type: mtls`: nodes that prove who they are with a certificate. */
import type { CertificateMatch } from './certificate-name.js';
import { CertificateTable } from './certificate-table.js';
import type { CertificateIdentity } from './certificate-table.js';
import { compileHolder } from './compile-holder.js';
import type { HolderContext } from './compile-holder.js';
import type { Draft } from './draft.js';
import { show } from './found.js';
import { deepFreeze } from './freeze.js';
import type { Material } from './material.js';
import type { Holder, MtlsAuthenticator } from './policy.js';
import type { AuthenticatorEntry } from './schema.js';

type MtlsEntry = Extract<AuthenticatorEntry, { type: 'mtls' }>;

/** How an entry says whose certificate it means; exactly one of them. */
export const MATCH_KEYS = ['san', 'cn', 'spki'] as const;

export function compileMtls(
  name: string,
  entry: MtlsEntry,
  node: Draft,
  context: HolderContext & { readonly material: Material },
): { readonly authenticator: MtlsAuthenticator; readonly holders: readonly Holder[] } {
  const { findings } = context;
  const identities: CertificateIdentity[] = [];
  const lines = new Map<string, number>();
  for (const [index, one] of entry.identities.entries()) {
    const at = node.at(['identities', index]);
    if (at === null) continue;
    const holder = compileHolder(one, at, context);
    const match = matchOf(one, at, context);
    if (match === null) continue;
    const key = `${match.kind} ${match.value}`;
    const line = lines.get(key);
    if (line !== undefined) {
      findings.error(
        'duplicate_identity',
        at.get(match.kind.startsWith('san') ? 'san' : match.kind),
        'value',
        `this name stands twice, the first is in line ${String(line)}: one certificate would stand for two callers`,
        'remove one of them',
      );
      continue;
    }
    lines.set(key, at.origin.at.line);
    // The table keeps it where nothing that freezes the policy comes.
    identities.push(deepFreeze({ match, holder }));
  }
  const read = context.material.clientAuthorities.get(node);
  return {
    authenticator: {
      type: 'mtls',
      name,
      realm: entry.realm ?? 'guardbee',
      carriers: new Set(['certificate'] as const),
      authority: read ?? { caFile: '', caPem: '', crlFile: null, crlPems: [], partialChain: false },
      identities: new CertificateTable(identities),
    },
    holders: identities.map((one) => one.holder),
  };
}

function matchOf(
  entry: MtlsEntry['identities'][number],
  node: Draft,
  { findings }: HolderContext,
): CertificateMatch | null {
  const written = MATCH_KEYS.filter((key) => node.declares(key));
  if (written.length === 0) {
    findings.missing(
      node,
      'san',
      `missing, needed is exactly one of san, cn and spki (identity ${show(entry.name)})`,
      'write san: "DNS:NAME"',
    );
    return null;
  }
  if (written.length > 1) {
    findings.error(
      'wrong_value',
      node.get(written[1] ?? '') ?? node,
      'key',
      `${written.join(' and ')} cannot stand together, allowed is exactly one of san, cn and spki`,
      'keep one of them, or write an entry for each',
    );
    return null;
  }
  return entry.san ?? entry.cn ?? entry.spki ?? null;
}
