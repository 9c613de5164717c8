/** Certificates of an ACME authority: for which names, and by which proof. Nobody is asked anything here. */
import { parseAddress } from '../net/address.js';
import { Secret } from '../secret/secret.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { show } from './found.js';
import type { Material } from './material.js';
import { ACME_CHALLENGES, type AcmeChallenge, type AcmeSettings, type Listener } from './policy.js';
import type { PolicyFile } from './schema.js';
import type { AcmeTlsEntry } from './schema-tls.js';

/**
 * The names of a listener's certificates: its own of `hosts`, or those that stand at `tls.acme`.
 *
 * @param hosts of the listener; undefined: it has none
 */
export function compileAcmeHosts(
  entry: AcmeTlsEntry,
  hosts: readonly string[] | undefined,
  listener: Draft,
  findings: Findings,
): readonly string[] {
  const isOwn = entry !== true;
  const names = isOwn ? entry.hosts : hosts;
  const node = isOwn ? listener.at(['tls', 'acme', 'hosts']) : listener.get('hosts');
  if (names === undefined) {
    if (!listener.dropped.has('hosts')) {
      findings.error(
        'missing_key',
        listener.at(['tls', 'acme']),
        'value',
        'certificates are ordered for names, and the listener has no hosts',
        'write hosts: [NAME] in the listener, or acme: { hosts: [NAME] }',
      );
    }
    return [];
  }
  for (const [index, name] of names.entries()) {
    const problem = notPublic(name);
    if (problem === null) continue;
    findings.error(
      'bad_host',
      node?.at([index]) ?? null,
      'value',
      `no authority issues a certificate for this: ${problem}`,
      isOwn ? 'remove it' : 'remove it, or name those that get one: tls: { acme: { hosts: [NAME] } }',
    );
  }
  return [...new Set(names)];
}

/** Why a name gets no certificate over ACME's http-01 and tls-alpn-01. Null: it may get one. */
function notPublic(name: string): string | null {
  if (parseAddress(name) !== null) return 'it is an address, not a name';
  if (name === 'localhost' || name.endsWith('.localhost')) return 'it is this machine to everybody (RFC 6761 §6.3)';
  if (name.includes('_')) return '"_" stands in no host name (RFC 5280 §4.2.1.6)';
  return null;
}

export function compileAcme(
  file: PolicyFile,
  tree: Draft,
  listeners: readonly Listener[],
  material: Material,
  findings: Findings,
): AcmeSettings | null {
  const { acme } = file;
  const wanting = listeners.filter((one) => one.type !== 'redirect' && one.tls?.kind === 'acme');
  const [first] = wanting;
  if (first !== undefined && !tree.declares('acme')) {
    findings.missing(
      tree,
      'acme',
      `missing, needed by the listener ${show(first.name)}, which gets its certificates over ACME`,
      'write acme: { directory: https://acme-v02.api.letsencrypt.org/directory, terms_agreed: true, email: NAME@EXAMPLE.COM }',
    );
  }
  const node = tree.get('acme');
  if (acme === undefined || node === null) return null;
  if (first === undefined) {
    if (tree.get('listeners')?.tainted === false) {
      findings.warn(
        'acme_unused',
        node,
        'key',
        'no listener has tls: { acme: true }, so nothing is asked of this authority',
      );
    }
    return null;
  }
  return {
    directory: acme.directory,
    email: acme.email ?? null,
    challenges: compileChallenges(acme.challenges, node, listeners, findings),
    authority: material.clientAuthorities.get(node) ?? null,
    externalAccount:
      acme.external_account === undefined
        ? null
        : {
            keyId: acme.external_account.key_id,
            key: compileMacKey(node.at(['external_account', 'key']), material, findings),
          },
  };
}

const ANSWERED_BY: Readonly<Record<AcmeChallenge, string>> = {
  'tls-alpn-01': 'a listener of type http with tls: { acme: true }',
  'http-01': 'a listener of type redirect',
};

/** Port that an authority connects to (RFC 8555 §8.3, RFC 8737 §3). */
const ASKED_AT: Readonly<Record<AcmeChallenge, number>> = { 'tls-alpn-01': 443, 'http-01': 80 };

function compileChallenges(
  written: readonly AcmeChallenge[] | undefined,
  node: Draft,
  listeners: readonly Listener[],
  findings: Findings,
): readonly AcmeChallenge[] {
  const answering = (challenge: AcmeChallenge): readonly Listener[] =>
    listeners.filter((one) =>
      challenge === 'http-01' ? one.type === 'redirect' : one.type === 'http' && one.tls?.kind === 'acme',
    );
  const isCertain = node.parent?.get('listeners')?.tainted === false;
  for (const [index, challenge] of (written ?? []).entries()) {
    if (answering(challenge).length > 0 || !isCertain) continue;
    findings.error(
      'wrong_value',
      node.at(['challenges', index]),
      'value',
      `${challenge} is answered by ${ANSWERED_BY[challenge]}, and there is none`,
      challenge === 'http-01'
        ? 'add a listener: { type: redirect, bind: 0.0.0.0:80, hosts: [NAME] }, or remove it here'
        : 'remove it here, or have an http listener get its certificate over ACME',
    );
  }
  const challenges = written ?? ACME_CHALLENGES.filter((one) => answering(one).length > 0);
  if (challenges.length === 0 && isCertain) {
    findings.error(
      'missing_key',
      node,
      'key',
      'no listener can show the authority that the hosts are ours: tcp listeners pass everything on',
      'add a listener: { type: redirect, bind: 0.0.0.0:80, hosts: [NAME] }',
    );
  }
  for (const challenge of challenges) {
    const all = answering(challenge);
    if (all.length === 0 || all.some(({ allowFrom }) => allowFrom === null)) continue;
    findings.warn(
      'acme_unreachable',
      node,
      'key',
      `${challenge} is answered by listeners with allow_from alone, so an authority from elsewhere cannot look whether the hosts are ours`,
      `leave the authority in, at port ${ASKED_AT[challenge]} of the hosts; who may ask what is decided by authenticate and by from of the routes`,
    );
  }
  return [...new Set(challenges)];
}

/** 128 bits. */
const SHORTEST_KEY = 16;

/** Kept as it is written, in base64url. */
function compileMacKey(node: Draft | null, material: Material, findings: Findings): Secret {
  const bytes = node === null ? undefined : material.secrets.get(node);
  // Nothing was read: what is wrong with it has been said, or secrets were not asked for.
  if (bytes === undefined) return Secret.fromText('');
  const text = bytes.toString('latin1');
  if (!/^[A-Za-z0-9_+/-]+={0,2}$/.test(text) || Buffer.from(text, 'base64url').length < SHORTEST_KEY) {
    findings.error(
      'secret_malformed',
      node,
      'value',
      `the key of an external account is base64url as the authority gave it, of ${SHORTEST_KEY} bytes at least`,
    );
  }
  return Secret.fromBytes(bytes);
}
