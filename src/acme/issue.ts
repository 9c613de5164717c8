/** How one host comes by its certificate. Whatever is known halfway is on the disk first, so that another start goes on from there. */
import { type KeyObject, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { AcmeChallenge, AcmeSettings } from '../policy/policy.js';
import { AccountKey, keyToPem, newKey } from './account-key.js';
import { type Authorization, Authority, type Challenge, type Order } from './authority.js';
import { type AccountFile, type HostFiles, type PendingOrder, isServable } from './files.js';
import { AcmeFailure, type AcmeFault } from './failure.js';
import type { PendingChallenges } from './pending-challenges.js';
import { certificationRequest, challengeCertificate } from './x509.js';

export interface Means {
  readonly settings: AcmeSettings;
  readonly account: AccountFile;
  readonly challenges: PendingChallenges;
  readonly signal: AbortSignal;
  /** How often this host has failed since it last had a certificate: another way of proof is tried then. */
  readonly failures: number;
  readonly pause: (ms: number) => Promise<void>;
}

/** From the first request to the certificate. An authority asks from several places, and may take its time. */
const LONGEST_POLLS_MS = 180_000;
const SHORTEST_POLL_MS = 250;
const LONGEST_POLL_MS = 15_000;

/**
 * Has the authority issue a certificate for `host`, and keeps it.
 *
 * @throws AcmeFailure, StateError
 */
export async function issue(host: string, files: HostFiles, means: Means): Promise<void> {
  const { settings, account } = means;
  const { key, url } = await account.open();
  const authority = new Authority(settings, new AccountKey(key), means.signal);
  try {
    authority.account = url;
    if (url === null) await account.known(await authority.openAccount(), settings.email);
    else if (account.contact !== settings.email) {
      await authority.tellContact();
      await account.known(url, settings.email);
    }
    await obtain(host, files, authority, new AccountKey(key), means);
  } catch (error) {
    // The next attempt asks for an account again, with the same key: an authority that knows it gives it back.
    if (error instanceof AcmeFailure && error.fault === 'account_gone') await account.forget();
    throw error;
  } finally {
    authority.close();
  }
}

async function obtain(
  host: string,
  files: HostFiles,
  authority: Authority,
  key: AccountKey,
  means: Means,
): Promise<void> {
  const { directory } = means.settings;
  let pending = await files.readPending();
  let order = pending?.directory === directory ? await orderAgain(authority, pending) : null;
  if (pending === null || order === null) {
    // A new key for each certificate: one that got out is of no use for long.
    const newcomer = newKey();
    order = await authority.newOrder(host);
    pending = { directory, order: order.url.href, key: newcomer };
    await files.writePending(pending);
  }
  const deadline = performance.now() + LONGEST_POLLS_MS;
  let finalized = false;
  for (let polls = 0; ; polls += 1) {
    switch (order.status) {
      case 'pending':
        for (const url of order.authorizations) await authorize(host, url, authority, key, means, deadline);
        break;
      case 'ready':
        if (!finalized) order = await finalize(order, certificationRequest(host, pending.key), authority, files, means);
        finalized = true;
        break;
      case 'processing':
        break;
      case 'valid': {
        const chain = await fetchChain(order.certificate, host, pending, authority, files, means);
        await files.writeCertificate(chain, keyToPem(pending.key), directory);
        await files.forgetPending();
        return;
      }
      case 'invalid':
        await files.forgetPending();
        throw new AcmeFailure(
          'challenge_failed',
          order.problem === '' ? 'it calls the order invalid' : `it calls the order invalid (${order.problem})`,
        );
    }
    if (order.status === 'valid') continue;
    await pollPause(polls, order.retryAfterMs, deadline, means);
    order = await authority.order(order.url);
  }
}

/** What is refused now would be refused the next time as well, and what breaks the authority twice would again: that begins anew then. */
async function finalize(
  order: Order,
  csr: Buffer,
  authority: Authority,
  files: HostFiles,
  { failures }: Means,
): Promise<Order> {
  try {
    return await authority.finalize(order, csr);
  } catch (error) {
    const isUseless =
      error instanceof AcmeFailure && (error.fault === 'refused' || (error.fault === 'unavailable' && failures > 0));
    if (isUseless) await files.forgetPending();
    throw error;
  }
}

const USELESS: ReadonlySet<AcmeFault> = new Set(['refused', 'unavailable', 'garbage']);

/** Once it may be an accident, and another order counts against the limits of the authority; twice it stays so for good. */
async function fetchChain(
  url: URL | null,
  host: string,
  { key }: PendingOrder,
  authority: Authority,
  files: HostFiles,
  { failures }: Means,
): Promise<string> {
  try {
    if (url === null) throw new AcmeFailure('garbage', 'its order is valid and has no certificate');
    return readChain(await authority.certificate(url), host, key);
  } catch (error) {
    const isUseless = error instanceof AcmeFailure && USELESS.has(error.fault);
    if (isUseless && failures > 0) await files.forgetPending();
    throw error;
  }
}

/** The order of an attempt that came to no end. Null: it is of no use any more. */
async function orderAgain(authority: Authority, { order }: PendingOrder): Promise<Order | null> {
  try {
    const found = await authority.order(new URL(order));
    return found.status === 'invalid' ? null : found;
  } catch (error) {
    // Gone or somebody else's. Anything else is for the next attempt, which would otherwise order for nothing.
    if (error instanceof AcmeFailure && error.fault === 'refused') return null;
    throw error;
  }
}

async function pollPause(polls: number, retryAfterMs: number | null, deadline: number, means: Means): Promise<void> {
  const asked = retryAfterMs ?? SHORTEST_POLL_MS * 1.5 ** polls;
  const ms = Math.min(Math.max(asked, SHORTEST_POLL_MS), LONGEST_POLL_MS);
  if (performance.now() + ms > deadline) throw new AcmeFailure('timeout', 'it has not come to an end in three minutes');
  await means.pause(ms);
}

async function authorize(
  host: string,
  url: URL,
  authority: Authority,
  key: AccountKey,
  means: Means,
  deadline: number,
): Promise<void> {
  let authorization = await authority.authorization(url);
  if (authorization.host !== host) throw new AcmeFailure('garbage', 'it asks for proof of another host');
  if (authorization.status === 'valid') return;
  if (authorization.status !== 'pending') throw failed(authorization, null);
  const challenge = choose(authorization, means);
  const takeBack = answer(host, challenge, key, means.challenges);
  try {
    await authority.accept(challenge);
    for (let polls = 0; authorization.status === 'pending'; polls += 1) {
      await pollPause(polls, authorization.retryAfterMs, deadline, means);
      authorization = await authority.authorization(url);
    }
  } finally {
    takeBack();
  }
  if (authorization.status !== 'valid') throw failed(authorization, challenge);
}

/** Another one after each failure, where there are two: a port that the authority does not reach is no reason to give up. */
function choose({ challenges }: Authorization, { settings, failures }: Means): Challenge {
  const offered = settings.challenges.flatMap((type) => challenges.filter((one) => one.type === type));
  const chosen = offered[failures % Math.max(1, offered.length)];
  if (chosen !== undefined) return chosen;
  throw new AcmeFailure('no_challenge', `it offers none of ${settings.challenges.join(', ')} for this host`);
}

function answer(host: string, { type, token }: Challenge, key: AccountKey, challenges: PendingChallenges): () => void {
  const keyAuthorization = `${token}.${key.thumbprint}`;
  if (type === ('http-01' satisfies AcmeChallenge)) return challenges.answerHttp(host, token, keyAuthorization);
  const ownKey = newKey();
  const context = createSecureContext({
    minVersion: 'TLSv1.2',
    cert: challengeCertificate(host, keyAuthorization, ownKey, Date.now()),
    key: keyToPem(ownKey),
  });
  return challenges.answerTls(host, context);
}

function failed({ challenges, status }: Authorization, tried: Challenge | null): AcmeFailure {
  const found = challenges.find(
    ({ url, problem }) => problem !== '' && (tried === null || url.href === tried.url.href),
  );
  const how = tried === null ? '' : ` by ${tried.type}`;
  const why =
    found === undefined
      ? `it calls the authorization ${/^[a-z]{1,20}$/.test(status) ? status : 'unusable'}`
      : found.problem;
  return new AcmeFailure('challenge_failed', `it did not find${how} that the host is ours (${why})`);
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;
const LONGEST_CHAIN = 10;

/** The chain, one certificate after the other and nothing else. */
function readChain(text: string, host: string, key: KeyObject): string {
  const blocks = text.match(CERTIFICATE) ?? [];
  const garbage = (words: string): AcmeFailure => new AcmeFailure('garbage', `the certificate that it gives ${words}`);
  if (blocks.length === 0 || blocks.length > LONGEST_CHAIN) throw garbage('is no chain of certificates');
  let chain: X509Certificate[];
  try {
    chain = blocks.map((block) => new X509Certificate(block));
  } catch {
    throw garbage('cannot be read');
  }
  const [own] = chain;
  if (own?.checkPrivateKey(key) !== true) throw garbage('is not for the key that was asked for');
  if (own.checkHost(host, { subject: 'never', wildcards: false }) === undefined)
    throw garbage('does not name the host');
  const pem = chain.map((one) => one.toString()).join('');
  if (!isServable(pem, keyToPem(key))) throw garbage('cannot be used for TLS');
  return pem;
}
