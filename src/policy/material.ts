/** What a policy names and does not hold: found here, read by `load.ts`, put in its place by `compile.ts`. */
import type { ClientAuthority, VouchesFor } from './client-authority.js';
import type { Draft } from './draft.js';
import type { Htpasswd } from './htpasswd.js';
import type { CertificatePair } from './policy.js';
import type {
  PolicyFile,
  SecretReference,
  TlsEntry,
  TokenEntryInFile,
  TokensFile,
  UpstreamAuthEntry,
} from './schema.js';
import type { AcmeEntry } from './schema-acme.js';
import type { DeliveryEntry } from './schema-audit.js';
import type { JwtEntry } from './schema-jwt.js';
import type { UpstreamTlsEntry } from './schema-outbound.js';
import type { ParsedUpstream } from './upstream.js';
import type { Validated } from './validate.js';
import type { VerificationKey } from './verification-key.js';

/** The node is that of the value that names it: an issue about the file stands there. */
export type Reference =
  | { readonly kind: 'tokens_file'; readonly node: Draft; readonly file: string }
  | { readonly kind: 'key_file'; readonly node: Draft; readonly from: 'jwks' | 'public_key'; readonly file: string }
  | { readonly kind: 'htpasswd_file'; readonly node: Draft; readonly file: string }
  | {
      readonly kind: 'certificate';
      readonly node: Draft;
      readonly cert: string;
      readonly key: string;
      /** To whom it is shown. */
      readonly shownTo: 'clients' | 'collector' | 'upstream';
    }
  | { readonly kind: 'secret'; readonly node: Draft; readonly reference: SecretReference }
  /** A token of callers: only its digest is kept. */
  | { readonly kind: 'token'; readonly node: Draft; readonly reference: SecretReference }
  | { readonly kind: 'host'; readonly node: Draft; readonly host: string }
  /** The node is that of the authenticator, of the collector, of `upstream_tls`, or of `acme`. */
  | {
      readonly kind: 'client_authority';
      readonly node: Draft;
      readonly ca: string;
      readonly crl: string | null;
      readonly vouchesFor: VouchesFor;
    }
  | { readonly kind: 'gateways' };

/** Where the addresses of a host name lie. */
export type HostLookup =
  | { readonly kind: 'loopback' }
  | { readonly kind: 'remote'; readonly address: string }
  | { readonly kind: 'unknown'; readonly why: string };

export interface Material {
  readonly tokensFiles: ReadonlyMap<Draft, Validated<TokensFile>>;
  readonly htpasswdFiles: ReadonlyMap<Draft, Htpasswd>;
  readonly certificates: ReadonlyMap<Draft, CertificatePair>;
  /** Public keys that tokens are verified with; by the node of the file's name. */
  readonly keyFiles: ReadonlyMap<Draft, readonly VerificationKey[]>;
  /** Bytes of a secret, checked, without the line end. */
  readonly secrets: ReadonlyMap<Draft, Buffer>;
  /** SHA-256 of the tokens that stand elsewhere, 64 lowercase hex digits; those of a tokens file too. */
  readonly digests: ReadonlyMap<Draft, string>;
  readonly hosts: ReadonlyMap<string, HostLookup>;
  /** By the node of the authenticator. */
  readonly clientAuthorities: ReadonlyMap<Draft, ClientAuthority>;
  /** Canonical addresses of this machine's default gateways. Null: nobody can say. */
  readonly gateways: ReadonlySet<string> | null;
}

/** For who may not or need not look outside the policy. */
export const NO_MATERIAL: Material = {
  tokensFiles: new Map(),
  htpasswdFiles: new Map(),
  certificates: new Map(),
  keyFiles: new Map(),
  secrets: new Map(),
  digests: new Map(),
  hosts: new Map(),
  clientAuthorities: new Map(),
  gateways: new Set(),
};

/** What stands under a key that was only probably meant may be the secret itself instead of its file, and is left alone. */
export function references(validated: Validated<PolicyFile>): Reference[] {
  const { value, tree } = validated;
  if (value === null || tree === null) return [];
  const found: Reference[] = [];
  for (const [name, listener] of Object.entries(value.listeners)) {
    if (listener.type === 'redirect') continue;
    const node = tree.at(['listeners', name]);
    tlsReferences(listener.tls, node?.get('tls') ?? null, found);
    if (listener.type === 'tcp') {
      hostReference(listener.upstream, node?.get('upstream') ?? null, found);
      continue;
    }
    authReference(listener.upstream_auth, node?.get('upstream_auth') ?? null, found);
    if (listener.outbound === true) outboundReferences(listener.upstream_tls, node?.get('upstream_tls') ?? null, found);
    const remote = listener.unsafe_remote_upstream === true;
    for (const [index, reference] of (listener.sessions?.keys ?? []).entries()) {
      const keyNode = node?.at(['sessions', 'keys', index]) ?? null;
      if (keyNode !== null) found.push({ kind: 'secret', node: keyNode, reference });
    }
    hostReference(remote ? undefined : listener.upstream, node?.get('upstream') ?? null, found);
    for (const [index, route] of listener.routes.entries()) {
      const routeNode = node?.at(['routes', index]) ?? null;
      authReference(route.upstream_auth, routeNode?.get('upstream_auth') ?? null, found);
      hostReference(remote ? undefined : route.upstream, routeNode?.get('upstream') ?? null, found);
    }
  }
  const urlNode = tree.at(['state', 'redis', 'url']);
  const url = value.state?.redis?.url;
  if (url !== undefined && urlNode !== null) found.push({ kind: 'secret', node: urlNode, reference: url });
  acmeReferences(value.acme, tree.get('acme'), found);
  deliveryReferences(value.audit?.deliver, tree.at(['audit', 'deliver']), found);
  for (const [name, authenticator] of Object.entries(value.authenticators ?? {})) {
    const node = tree.at(['authenticators', name]);
    if (authenticator.type === 'bearer') {
      const fileNode = node?.get('tokens_file') ?? null;
      if (authenticator.tokens_file !== undefined && fileNode?.meant === null) {
        found.push({ kind: 'tokens_file', node: fileNode, file: authenticator.tokens_file });
      }
      found.push(...tokenReferences(authenticator.tokens ?? [], node?.get('tokens') ?? null));
    } else if (authenticator.type === 'mtls' && node !== null) {
      const { ca, crl = null } = authenticator;
      found.push({ kind: 'client_authority', node, ca, crl, vouchesFor: 'clients' });
    } else if (authenticator.type === 'jwt') {
      keyReferences(authenticator, node, found);
    } else if (authenticator.type === 'basic') {
      const fileNode = node?.get('htpasswd_file') ?? null;
      if (fileNode?.standIn === false && fileNode.meant === null) {
        found.push({ kind: 'htpasswd_file', node: fileNode, file: authenticator.htpasswd_file });
      }
    }
  }
  if (Object.values(value.authenticators ?? {}).some(({ type }) => type === 'network'))
    found.push({ kind: 'gateways' });
  return found;
}

/** Those of a list of tokens: of an authenticator, or of a tokens file. */
export function tokenReferences(tokens: readonly TokenEntryInFile[], list: Draft | null): Reference[] {
  return tokens.flatMap((token, index): Reference[] => {
    const node = list?.at([index, 'token']) ?? null;
    // Beside a digest it is not read: which of the two was meant is not known.
    if (token.token === undefined || token.sha256 !== undefined || node === null) return [];
    return [{ kind: 'token', node, reference: token.token }];
  });
}

function keyReferences(entry: JwtEntry, node: Draft | null, found: Reference[]): void {
  const jwks = entry.jwks !== undefined && 'file' in entry.jwks ? entry.jwks.file : undefined;
  for (const [from, file] of [['jwks', jwks] as const, ['public_key', entry.public_key?.file] as const]) {
    const fileNode = node?.at([from, 'file']) ?? null;
    if (file !== undefined && fileNode !== null) found.push({ kind: 'key_file', node: fileNode, from, file });
  }
}

function tlsReferences(tls: TlsEntry | undefined, node: Draft | null, found: Reference[]): void {
  if (tls === undefined || node === null || 'self_signed' in tls || 'acme' in tls) return;
  if ('cert' in tls) {
    found.push({ kind: 'certificate', node, cert: tls.cert, key: tls.key, shownTo: 'clients' });
    return;
  }
  for (const [index, pair] of tls.certificates.entries()) {
    const pairNode = node.at(['certificates', index]);
    if (pairNode === null) continue;
    found.push({ kind: 'certificate', node: pairNode, cert: pair.cert, key: pair.key, shownTo: 'clients' });
  }
}

function outboundReferences(entry: UpstreamTlsEntry | undefined, node: Draft | null, found: Reference[]): void {
  if (entry === undefined || node === null) return;
  const { client_certificate: pair, ca } = entry;
  const pairNode = node.get('client_certificate');
  if (pair !== undefined && pairNode !== null) {
    found.push({ kind: 'certificate', node: pairNode, cert: pair.cert, key: pair.key, shownTo: 'upstream' });
  }
  if (ca !== undefined) found.push({ kind: 'client_authority', node, ca, crl: null, vouchesFor: 'upstream' });
}

function acmeReferences(entry: AcmeEntry | undefined, node: Draft | null, found: Reference[]): void {
  if (entry === undefined || node === null) return;
  const { external_account: account, ca } = entry;
  const keyNode = node.at(['external_account', 'key']);
  if (account !== undefined && keyNode !== null) found.push({ kind: 'secret', node: keyNode, reference: account.key });
  if (ca !== undefined) found.push({ kind: 'client_authority', node, ca, crl: null, vouchesFor: 'acme' });
}

function deliveryReferences(entry: DeliveryEntry | undefined, node: Draft | null, found: Reference[]): void {
  if (entry === undefined || node === null) return;
  const { token, client_certificate: pair, ca } = entry;
  const tokenNode = node.get('token');
  if (token !== undefined && tokenNode !== null) found.push({ kind: 'secret', node: tokenNode, reference: token });
  const pairNode = node.get('client_certificate');
  if (pair !== undefined && pairNode !== null) {
    found.push({ kind: 'certificate', node: pairNode, cert: pair.cert, key: pair.key, shownTo: 'collector' });
  }
  if (ca !== undefined) found.push({ kind: 'client_authority', node, ca, crl: null, vouchesFor: 'collector' });
}

function authReference(auth: UpstreamAuthEntry | undefined, node: Draft | null, found: Reference[]): void {
  if (auth === undefined || node === null) return;
  const [key, reference] =
    auth.type === 'bearer'
      ? (['token', auth.token] as const)
      : auth.type === 'basic'
        ? (['password', auth.password] as const)
        : (['value', auth.value] as const);
  const secretNode = node.get(key);
  if (secretNode !== null) found.push({ kind: 'secret', node: secretNode, reference });
}

function hostReference(upstream: ParsedUpstream | undefined, node: Draft | null, found: Reference[]): void {
  // What TLS is spoken with proves who it is, wherever its name leads when somebody connects.
  if (upstream?.nearness !== 'name' || upstream.secure || upstream.target.kind !== 'tcp' || node === null) return;
  found.push({ kind: 'host', node, host: upstream.target.host });
}
