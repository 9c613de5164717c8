/** Reads a policy and all that it names. The only file of this folder that looks outside. */
import { createHash } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { endianness, homedir } from 'node:os';
import * as path from 'node:path';
import { isLoopback, parsePeerAddress } from '../net/address.js';
import { LARGEST_SECRET, contentOf, currentReader, readFile, secretFrom } from '../secret/files.js';
import type { FileFault, FileRead, FilesRead, ReadFile, Reader, SecretFault } from '../secret/files.js';
import { sha256Hex } from '../secret/digest.js';
import { Secret } from '../secret/secret.js';
import { judgeCertificatePair } from './certificate-pair.js';
import { judgeClientAuthority } from './client-authority.js';
import type { ClientAuthority, VouchesFor } from './client-authority.js';
import { compile } from './compile.js';
import { LARGEST_DOCUMENT, parseDocument, wholeFile } from './document.js';
import type { Draft } from './draft.js';
import { isShowable, show } from './found.js';
import { defaultGatewaysV4, defaultGatewaysV6 } from './gateways.js';
import { type Htpasswd, readHtpasswd } from './htpasswd.js';
import type { Issue, IssueCode } from './issue.js';
import { NO_MATERIAL, references, tokenReferences } from './material.js';
import type { HostLookup, Material, Reference } from './material.js';
import type { CertificatePair, Policy } from './policy.js';
import { sortIssues } from './render-issues.js';
import { policySchema, tokensFileSchema } from './schema.js';
import type { SecretReference, TokensFile } from './schema.js';
import { issueAt, validate } from './validate.js';
import type { Validated } from './validate.js';
import { LARGEST_KEY_SET, readJwkSet, readPublicKeyPem } from './verification-key.js';
import type { VerificationKey } from './verification-key.js';

export interface LoadOptions {
  /** Secrets named by `{ env: NAME }` are taken out of it. */
  readonly env: NodeJS.ProcessEnv;
  /** Epoch milliseconds. */
  readonly now: number;
  /**
   * Do not touch tokens_file, certificates and secrets, nor look up names: for whoever asks what the rules say, and may
   * not read secrets. Such a policy must not be served.
   */
  readonly skipSecretFiles?: boolean;
  /** All addresses of a host name; that of the system when left out. */
  readonly lookup?: Outside['lookup'];
  /** Canonical addresses of this machine's default gateways, null where that is not known; asked of the kernel when left out. */
  readonly gateways?: () => Promise<ReadonlySet<string> | null>;
  /** Through which everything else is read; the system itself when left out. */
  readonly outside?: Outside;
}

/** What a policy is read through. Another one keeps what was read, or gives again what was kept (reading.ts). */
export interface Outside {
  file(...asked: Parameters<typeof readFile>): Promise<ReadFile>;
  /** Takes a secret out of an environment. */
  secret(env: NodeJS.ProcessEnv, name: string): string | undefined;
  lookup(host: string): Promise<readonly { readonly address: string }[]>;
}

/** The system itself. */
export const SYSTEM: Outside = Object.freeze({
  file: readFile,
  secret: takeFromEnvironment,
  lookup: (host: string) => lookup(host, { all: true }),
});

export type Loaded = {
  /** That of the policy, and those that it names. */
  readonly files: FilesRead;
} & (
  | { readonly ok: true; readonly policy: Policy; readonly warnings: readonly Issue[] }
  | { readonly ok: false; readonly issues: readonly Issue[] }
);

export async function loadPolicy(file: string, options: LoadOptions): Promise<Loaded> {
  const files = new Map<string, FileRead>();
  const outside = noting(files, options.outside ?? SYSTEM);
  const { bytes, fault } = await outside.file(file, 'trusted', LARGEST_DOCUMENT, currentReader(options.env));
  const issues: Issue[] = [];
  if (fault !== null) issues.push(...wholeFile(file, ...policyFault(fault)).issues);
  if (bytes === null) return { ok: false, issues, files };
  const text = decode(bytes);
  if (text === null) {
    issues.push(...wholeFile(file, 'yaml_syntax', 'the file is not UTF-8 text', 'save it as UTF-8').issues);
    return { ok: false, issues, files };
  }
  return load(text, file, { ...options, outside }, issues, files);
}

/** The same for a text that was read elsewhere; `fileName` says how to call it and where relative paths begin. */
export async function loadPolicyText(text: string, fileName: string, options: LoadOptions): Promise<Loaded> {
  const files = new Map<string, FileRead>();
  return load(text, fileName, { ...options, outside: noting(files, options.outside ?? SYSTEM) }, [], files);
}

/** Notes what was found in files. */
function noting(files: Map<string, FileRead>, outside: Outside): Outside {
  return {
    ...outside,
    file: async (file, demand, limit, reader) => {
      const read = await outside.file(file, demand, limit, reader);
      if (ROUTES.includes(file)) return read;
      const at = path.resolve(file);
      const content = contentOf(read);
      const before = files.get(at);
      // Named twice, and changed in between: what it held is known no more.
      files.set(at, { limit, content: before === undefined || before.content === content ? content : 'changing' });
      return read;
    },
  };
}

async function load(
  text: string,
  file: string,
  options: LoadOptions & { readonly outside: Outside },
  before: readonly Issue[],
  files: FilesRead,
): Promise<Loaded> {
  const validated = validate(parseDocument(text, file), policySchema);
  const baseDir = path.dirname(path.resolve(file));
  const gathering = new Gathering(file, baseDir, options, validated.value?.secret_mounts ?? []);
  const material =
    options.skipSecretFiles === true
      ? withoutFiles(references(validated), baseDir)
      : await gathering.run(references(validated));
  const { policy, errors, warnings } = compile(validated, {
    file,
    baseDir,
    stateDir: stateDirectory(options.env, file),
    version: createHash('sha256').update(text, 'utf8').digest('hex').slice(0, 12),
    now: options.now,
    material,
    warnings: gathering.warnings,
  });
  const issues = [...before, ...validated.issues, ...gathering.errors, ...errors];
  if (policy === null || issues.length > 0) return { ok: false, issues: sortIssues(issues, file), files };
  return { ok: true, policy, warnings, files };
}

/**
 * `$STATE_DIRECTORY` is what systemd says (a list, of which the first is ours). Elsewhere it has the name of the policy's
 * file: one process has one directory, and a machine may run one for the queen and one for the hive.
 */
function stateDirectory(env: NodeJS.ProcessEnv, file: string): string {
  const systemd = env['STATE_DIRECTORY']?.split(':')[0];
  if (systemd !== undefined && path.isAbsolute(systemd)) return systemd;
  const { name } = path.parse(file);
  const xdg = env['XDG_STATE_HOME'];
  if (xdg !== undefined && path.isAbsolute(xdg)) return path.join(xdg, 'guardbee', name);
  return path.join(env['HOME'] ?? homedir(), '.local', 'state', 'guardbee', name);
}

function decode(bytes: Buffer): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

function policyFault(fault: FileFault): [code: IssueCode, message: string, hint?: string] {
  switch (fault.kind) {
    case 'missing':
      return ['file_unreadable', 'there is no such file', 'name the policy with --config FILE'];
    case 'too_open':
      return ['file_writable', `${fault.why} (mode ${fault.mode}), and with it who gets in`, fault.fix];
    case 'too_large':
      return ['too_large', `the file is larger than ${fault.limit / 1024 / 1024} MiB`];
    default:
      return ['file_unreadable', describeFault(fault), mendFault(fault)];
  }
}

function describeFault(fault: FileFault): string {
  switch (fault.kind) {
    case 'missing':
      return 'there is no such file';
    case 'unreadable':
      return `it cannot be read: ${fault.why}`;
    case 'not_a_file':
      return `it is ${fault.what}, not a file`;
    case 'too_large':
      return `it is larger than ${fault.limit / 1024 / 1024} MiB`;
    case 'too_open':
      return `${fault.why} (mode ${fault.mode}), allowed is ${fault.allowed}`;
  }
}

/** What to do about it. @param missing where there is no such file */
function mendFault(fault: FileFault, missing = 'put it there, or name another'): string {
  switch (fault.kind) {
    case 'missing':
      return missing;
    case 'unreadable':
    case 'too_open':
      return fault.fix;
    case 'not_a_file':
    case 'too_large':
      return 'put the right file there, or name another';
  }
}

/** Empty places for what is not read, so that the policy has its shape. */
function withoutFiles(all: readonly Reference[], baseDir: string): Material {
  const certificates = new Map<Draft, CertificatePair>();
  const clientAuthorities = new Map<Draft, ClientAuthority>();
  for (const one of all) {
    if (one.kind === 'client_authority') {
      const crlFile = one.crl === null ? null : path.resolve(baseDir, one.crl);
      const caFile = path.resolve(baseDir, one.ca);
      clientAuthorities.set(one.node, { caFile, caPem: '', crlFile, crlPems: [], partialChain: false });
    }
    if (one.kind !== 'certificate') continue;
    certificates.set(one.node, {
      certFile: path.resolve(baseDir, one.cert),
      keyFile: path.resolve(baseDir, one.key),
      certPem: '',
      key: Secret.fromText(''),
    });
  }
  return { ...NO_MATERIAL, certificates, clientAuthorities };
}

/**
 * Secrets that were taken out of an environment, for the next reload: they are not there a second time.
 */
const taken = new WeakMap<NodeJS.ProcessEnv, Map<string, string>>();

function takeFromEnvironment(env: NodeJS.ProcessEnv, name: string): string | undefined {
  let values = taken.get(env);
  if (values === undefined) {
    values = new Map();
    taken.set(env, values);
  }
  const value = env[name];
  if (value !== undefined) {
    values.set(name, value);
    // Children would inherit it. /proc/PID/environ of this process keeps it (SECURITY.md says so).
    Reflect.deleteProperty(env, name);
  }
  return values.get(name);
}

/** What the kernel says of routes: to IPv4 and to IPv6. */
const ROUTES: readonly string[] = ['/proc/net/route', '/proc/net/ipv6_route'];

/** Reads what a policy refers to, and says what is wrong with it where it is named. */
class Gathering {
  readonly errors: Issue[] = [];
  readonly warnings: Issue[] = [];
  readonly #file: string;
  readonly #baseDir: string;
  readonly #options: LoadOptions;
  readonly #reader: Reader;
  readonly #outside: Outside;

  constructor(
    file: string,
    baseDir: string,
    options: LoadOptions & { readonly outside: Outside },
    secretMounts: readonly string[],
  ) {
    this.#file = file;
    this.#baseDir = baseDir;
    this.#options = options;
    this.#reader = currentReader(options.env, secretMounts);
    this.#outside = options.outside;
  }

  async run(all: readonly Reference[]): Promise<Material> {
    const tokensFiles = new Map<Draft, Validated<TokensFile>>();
    const htpasswdFiles = new Map<Draft, Htpasswd>();
    const certificates = new Map<Draft, CertificatePair>();
    const keyFiles = new Map<Draft, readonly VerificationKey[]>();
    const secrets = new Map<Draft, Buffer>();
    const digests = new Map<Draft, string>();
    const hosts = new Map<string, HostLookup>();
    const clientAuthorities = new Map<Draft, ClientAuthority>();
    let gateways: ReadonlySet<string> | null = NO_MATERIAL.gateways;
    await Promise.all(
      all.map(async (one) => {
        switch (one.kind) {
          case 'tokens_file': {
            const read = await this.#readTokens(one.node, one.file);
            if (read === null) return;
            tokensFiles.set(one.node, read);
            const named = tokenReferences(read.value?.tokens ?? [], read.tree?.get('tokens') ?? null);
            await Promise.all(named.map(async (token) => await this.#digest(token, path.dirname(one.file), digests)));
            return;
          }
          case 'key_file': {
            const keys = await this.#readKeys(one.node, one.from, one.file);
            if (keys !== null) keyFiles.set(one.node, keys);
            return;
          }
          case 'htpasswd_file': {
            const read = await this.#readHtpasswd(one.node, one.file);
            if (read !== null) htpasswdFiles.set(one.node, read);
            return;
          }
          case 'certificate': {
            const pair = await this.#readCertificate(one);
            if (pair !== null) certificates.set(one.node, pair);
            return;
          }
          case 'secret': {
            const bytes = await this.#readSecret(one.node, one.reference);
            if (bytes !== null) secrets.set(one.node, bytes);
            return;
          }
          case 'token':
            await this.#digest(one, '', digests);
            return;
          case 'host':
            hosts.set(one.host, await this.#lookUp(one.host));
            return;
          case 'client_authority': {
            const authority = await this.#readClientAuthority(one);
            if (authority !== null) clientAuthorities.set(one.node, authority);
            return;
          }
          case 'gateways':
            gateways = await (this.#options.gateways ?? (() => this.#askGateways()))();
        }
      }),
    );
    return {
      tokensFiles,
      htpasswdFiles,
      certificates,
      keyFiles,
      secrets,
      digests,
      hosts,
      clientAuthorities,
      gateways,
    };
  }

  #resolve(file: string): string {
    return path.resolve(this.#baseDir, file);
  }

  /** How to call a file that the policy names: so that it can be opened from where the user is. */
  #called(file: string): string {
    return path.isAbsolute(file) ? file : path.join(path.dirname(this.#file), file);
  }

  #error(code: IssueCode, node: Draft | null, message: string, hint?: string): void {
    if (node !== null) this.errors.push(issueAt(code, node, 'value', message, hint));
  }

  /** Says what is wrong with a file that must be private. */
  #privateFault(node: Draft | null, file: string, fault: FileFault, hint?: string): void {
    const what = `the file ${show(this.#called(file))}: ${describeFault(fault)}`;
    this.#error(fault.kind === 'too_open' ? 'secret_too_open' : 'secret_missing', node, what, mendFault(fault, hint));
  }

  async #readTokens(node: Draft, file: string): Promise<Validated<TokensFile> | null> {
    const { bytes, fault } = await this.#outside.file(this.#resolve(file), 'private', LARGEST_DOCUMENT, this.#reader);
    if (fault !== null) {
      this.#privateFault(
        node,
        file,
        fault,
        'run "guardbee token new", put what it prints into the file, and chmod 600 it',
      );
    }
    if (bytes === null) return null;
    const called = this.#called(file);
    const text = decode(bytes);
    const document =
      text === null ? wholeFile(called, 'yaml_syntax', 'the file is not UTF-8 text') : parseDocument(text, called);
    const validated = validate(document, tokensFileSchema);
    for (const issue of validated.issues) this.errors.push(issue);
    return validated;
  }

  /** Public, so anyone may read it; but whoever changes it makes tokens. */
  async #readKeys(node: Draft, from: 'jwks' | 'public_key', file: string): Promise<readonly VerificationKey[] | null> {
    const { bytes, fault } = await this.#outside.file(this.#resolve(file), 'trusted', LARGEST_KEY_SET, this.#reader);
    const called = `the file ${show(this.#called(file))}`;
    if (fault?.kind === 'too_open') {
      const what = `${called}: ${describeFault(fault)}, and with it who can make tokens`;
      this.#error('file_writable', node, what, fault.fix);
    } else if (fault?.kind === 'too_large') {
      this.#error('bad_key', node, `${called}: it is larger than ${LARGEST_KEY_SET / 1024} KiB`);
    } else if (fault !== null) {
      this.#error('key_missing', node, `${called}: ${describeFault(fault)}`, mendFault(fault));
    }
    if (bytes === null) return null;
    const keys = from === 'jwks' ? readJwkSet(bytes) : readPublicKeyPem(bytes);
    if (keys.ok) return keys.value;
    this.#error('bad_key', node, `${called}: ${keys.problem}`, keys.hint);
    return null;
  }

  async #readHtpasswd(node: Draft, file: string): Promise<Htpasswd | null> {
    const { bytes, fault } = await this.#outside.file(this.#resolve(file), 'private', LARGEST_DOCUMENT, this.#reader);
    const called = this.#called(file);
    if (fault !== null) this.#privateFault(node, file, fault, 'run "htpasswd -B -C 12 -c FILE NAME", and chmod 600 it');
    if (bytes === null) return null;
    const text = decode(bytes);
    bytes.fill(0);
    if (text === null) {
      this.#error('bad_htpasswd', node, `the file ${show(called)} is not UTF-8 text`, 'save it as UTF-8');
      return null;
    }
    const read = readHtpasswd(text, called);
    for (const issue of read.issues) (issue.severity === 'error' ? this.errors : this.warnings).push(issue);
    return read;
  }

  async #readCertificate(one: Extract<Reference, { kind: 'certificate' }>): Promise<CertificatePair | null> {
    const { node, cert, key, shownTo } = one;
    const [certRead, keyRead] = await Promise.all([
      this.#outside.file(this.#resolve(cert), 'any', LARGEST_SECRET, this.#reader),
      this.#outside.file(this.#resolve(key), 'private', LARGEST_SECRET, this.#reader),
    ]);
    const certNode = node.get('cert');
    const keyNode = node.get('key');
    if (certRead.fault !== null) {
      const what = `the file ${show(this.#called(cert))}: ${describeFault(certRead.fault)}`;
      const made = 'guardbee makes one itself with tls: { self_signed: { names: [NAME] } }';
      const hint = shownTo === 'clients' ? made : undefined;
      this.#error('certificate_missing', certNode, what, mendFault(certRead.fault, hint));
    }
    if (keyRead.fault !== null) this.#privateFault(keyNode, key, keyRead.fault);
    if (certRead.bytes === null || keyRead.bytes === null) return null;

    const verdict = judgeCertificatePair(certRead.bytes, keyRead.bytes, this.#options.now);
    if (!verdict.ok) {
      const [at, file] = verdict.of === 'cert' ? [certNode, cert] : [keyNode, key];
      this.#error('bad_certificate', at, `the file ${show(this.#called(file))}: ${verdict.problem}`, verdict.hint);
      return null;
    }
    if (verdict.validity !== 'valid' && certNode !== null) {
      const what = verdict.validity === 'expired' ? 'is expired' : 'is not valid yet';
      const message = `the certificate in ${show(this.#called(cert))} ${what}: ${shownTo === 'clients' ? 'clients' : `the ${shownTo}`} will refuse it`;
      this.warnings.push(
        issueAt('certificate_expired', certNode, 'value', message, 'renew it, or look at the clock', 'warning'),
      );
    }
    return {
      certFile: this.#resolve(cert),
      keyFile: this.#resolve(key),
      certPem: certRead.bytes.toString('utf8'),
      key: Secret.fromBytes(keyRead.bytes),
    };
  }

  async #readClientAuthority(one: Extract<Reference, { kind: 'client_authority' }>): Promise<ClientAuthority | null> {
    const { node, ca, crl, vouchesFor } = one;
    const gets = GETS[vouchesFor];
    const read = (file: string): ReturnType<Outside['file']> =>
      this.#outside.file(this.#resolve(file), 'trusted', LARGEST_SECRET, this.#reader);
    const [caRead, crlRead] = await Promise.all([read(ca), crl === null ? null : read(crl)]);
    const files = { ca, crl: crl ?? '' };
    for (const [key, one] of [
      ['ca', caRead],
      ['crl', crlRead],
    ] as const) {
      if (one?.fault == null) continue;
      const what = `the file ${show(this.#called(files[key]))}: ${describeFault(one.fault)}`;
      if (one.fault.kind === 'too_open') {
        this.#error('file_writable', node.get(key), `${what}, and with it ${gets}`, one.fault.fix);
      } else {
        this.#error('certificate_missing', node.get(key), what, mendFault(one.fault));
      }
    }
    if (caRead.bytes === null || (crlRead !== null && crlRead.bytes === null)) return null;
    const verdict = judgeClientAuthority(caRead.bytes, crlRead?.bytes ?? null, this.#options.now, vouchesFor);
    for (const { severity, of, kind, problem, hint } of verdict.problems) {
      const at = node.get(of);
      if (at === null) continue;
      const code = {
        wrong: of === 'ca' ? 'bad_certificate' : 'bad_revocation_list',
        date: of === 'ca' ? 'certificate_expired' : 'revocation_list_stale',
        rootless: 'authority_without_root',
      } as const;
      const message = `the file ${show(this.#called(files[of]))}: ${problem}`;
      const issue = issueAt(code[kind], at, 'value', message, hint, severity);
      (severity === 'error' ? this.errors : this.warnings).push(issue);
    }
    if (verdict.authority === null) return null;
    return {
      ...verdict.authority,
      caFile: this.#resolve(ca),
      crlFile: crl === null ? null : this.#resolve(crl),
    };
  }

  /** What the kernel has as default routes; null where it does not say. */
  async #askGateways(): Promise<ReadonlySet<string> | null> {
    const [v4, v6] = await Promise.all(
      ROUTES.map((table) => this.#outside.file(table, 'any', LARGEST_SECRET, this.#reader)),
    );
    if (v4?.bytes == null) return null;
    // Without IPv6 the kernel has no such table, and then there is no such gateway.
    if (v6?.bytes == null && v6?.fault?.kind !== 'missing') return null;
    return new Set([
      ...defaultGatewaysV4(v4.bytes.toString('latin1'), endianness()),
      ...defaultGatewaysV6(v6.bytes?.toString('latin1') ?? ''),
    ]);
  }

  /** @param folder Of the file that the reference stands in, as seen from that of the policy. */
  async #digest(one: Reference, folder: string, digests: Map<Draft, string>): Promise<void> {
    if (one.kind !== 'token') return;
    const { node, reference } = one;
    const moved = 'file' in reference ? { file: path.join(folder, reference.file) } : reference;
    const bytes = await this.#readSecret(node, path.isAbsolute(referredFile(reference)) ? reference : moved);
    if (bytes === null) return;
    const problem = problemOfToken(bytes);
    // A digest is taken of what is shown, and only ASCII can be shown.
    if (problem === null) digests.set(node, sha256Hex(bytes.toString('latin1')));
    else this.#error('secret_malformed', node, `the token ${this.#standsIn(moved)} ${problem}`, MINT);
    bytes.fill(0);
  }

  async #readSecret(node: Draft, reference: SecretReference): Promise<Buffer | null> {
    let bytes: Buffer | null;
    if ('env' in reference) bytes = this.#fromEnvironment(node, reference.env);
    else if ('file' in reference) bytes = await this.#fromFile(node.get('file'), reference.file);
    else if ('env_file' in reference) bytes = await this.#fromNamedFile(node.get('env_file'), reference.env_file);
    else bytes = await this.#fromCredential(node.get('credential'), reference.credential);
    if (bytes === null) return null;
    const secret = secretFrom(bytes);
    bytes.fill(0);
    if ('bytes' in secret) return secret.bytes;
    const [code, problem, hint] = SECRET_FAULTS[secret.fault];
    this.#error(code, node, `the secret ${this.#standsIn(reference)} ${problem}`, hint);
    return null;
  }

  #standsIn(reference: SecretReference): string {
    if ('file' in reference) return `in ${show(this.#called(reference.file))}`;
    if ('env' in reference) return `in the environment variable ${show(reference.env)}`;
    if ('env_file' in reference) return `in the file that the environment variable ${show(reference.env_file)} names`;
    return `of the credential ${show(reference.credential)}`;
  }

  async #fromFile(node: Draft | null, file: string): Promise<Buffer | null> {
    const { bytes, fault } = await this.#outside.file(this.#resolve(file), 'private', LARGEST_SECRET, this.#reader);
    if (fault !== null) this.#privateFault(node, file, fault, 'write the secret into it, and chmod 600 it');
    return bytes;
  }

  /** The variable holds a path, which is no secret: it stays where it is. */
  async #fromNamedFile(node: Draft | null, name: string): Promise<Buffer | null> {
    const file = this.#options.env[name] ?? '';
    if (file === '' || !path.isAbsolute(file)) {
      this.#error(
        'secret_missing',
        node,
        file === ''
          ? `the environment variable ${show(name)}, which names the file of the secret, is not set`
          : `the environment variable ${show(name)} holds no absolute path`,
        `set it to the path of the file (in a systemd unit: Environment=${name}=%d/CREDENTIAL), or use { file: PATH }`,
      );
      return null;
    }
    return await this.#fromFile(node, file);
  }

  async #fromCredential(node: Draft | null, name: string): Promise<Buffer | null> {
    const folder = this.#reader.credentialsDirectory;
    const unit = `LoadCredential=${isShowable(name) ? name : 'NAME'}:/PATH/OF/THE/SECRET`;
    if (folder === null || !path.isAbsolute(folder)) {
      this.#error(
        'secret_missing',
        node,
        folder === null
          ? 'a systemd credential is named, and systemd handed over none ($CREDENTIALS_DIRECTORY is not set)'
          : 'a systemd credential is named, and $CREDENTIALS_DIRECTORY is not an absolute path',
        `write ${unit} into the unit, or use { file: PATH }`,
      );
      return null;
    }
    const { bytes, fault } = await this.#outside.file(path.join(folder, name), 'private', LARGEST_SECRET, this.#reader);
    if (fault?.kind === 'missing') {
      this.#error(
        'secret_missing',
        node,
        `systemd handed over no credential ${show(name)}`,
        `write ${unit} into the unit`,
      );
    } else if (fault !== null) {
      this.#privateFault(node, path.join(folder, name), fault);
    }
    return bytes;
  }

  #fromEnvironment(node: Draft, name: string): Buffer | null {
    const value = this.#outside.secret(this.#options.env, name);
    if (value === undefined) {
      this.#error(
        'secret_missing',
        node.get('env'),
        `the environment variable ${show(name)} is not set`,
        'set it, or better use { file: PATH }',
      );
      return null;
    }
    this.warnings.push(
      issueAt(
        'secret_from_environment',
        node,
        'value',
        'a secret in the environment can be read in /proc, and ends up in crash reports and container listings',
        'use { file: PATH } or { credential: NAME }',
        'warning',
      ),
    );
    return Buffer.from(value, 'utf8');
  }

  /** All addresses count: whichever is tried, it must be this machine. Asked again at each connect. */
  async #lookUp(host: string): Promise<HostLookup> {
    const ask = this.#options.lookup ?? ((name: string) => this.#outside.lookup(name));
    try {
      const found = await ask(host);
      for (const { address } of found) {
        const read = parsePeerAddress(address);
        if (read === null || !isLoopback(read)) return { kind: 'remote', address };
      }
      return found.length === 0 ? { kind: 'unknown', why: 'no address' } : { kind: 'loopback' };
    } catch (error) {
      return { kind: 'unknown', why: (error as NodeJS.ErrnoException).code ?? 'unknown error' };
    }
  }
}

function referredFile(reference: SecretReference): string {
  return 'file' in reference ? reference.file : '';
}

/** What whoever may write to the file of an authority decides. */
const GETS = Object.freeze({
  clients: 'who gets in',
  collector: 'who is given the records',
  upstream: 'who is given the requests',
  acme: 'who gives out the certificates',
} as const satisfies Record<VouchesFor, string>);

const MINT = '"guardbee token new" makes one';

/** The bounds of what a client can show (identity/credential.ts), and of what nobody can guess. */
const SHORTEST_TOKEN = 16;
const LONGEST_TOKEN = 8192;

/** Why this is no token for callers, or null. */
function problemOfToken(bytes: Buffer): string | null {
  if (bytes.length < SHORTEST_TOKEN) return `has fewer than ${SHORTEST_TOKEN} characters, so it can be guessed`;
  if (bytes.length > LONGEST_TOKEN) return `has more than ${LONGEST_TOKEN} characters`;
  return bytes.some((byte) => byte < 0x21 || byte > 0x7e)
    ? 'holds what no header field can show: allowed is printable ASCII without blanks'
    : null;
}

const SECRET_FAULTS: Readonly<Record<SecretFault, readonly [code: IssueCode, message: string, hint?: string]>> = {
  empty: ['secret_empty', 'is empty'],
  placeholder: ['secret_placeholder', 'is still a placeholder', 'put the real one there'],
  assignment: ['secret_malformed', 'is of the form NAME=value', 'keep the value alone'],
  several_lines: ['secret_malformed', 'has more than one line', 'keep one secret in one file'],
  control_character: ['secret_malformed', 'holds a control character'],
  blank: ['secret_malformed', 'begins or ends with a blank', 'remove the blank'],
};
