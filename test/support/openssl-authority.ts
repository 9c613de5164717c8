import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface OpensslIssue {
  /** `/CN=hive-1`, `/CN=a/CN=b`; default: `/O=test` */
  readonly subject?: string;
  /** What stands behind `subjectAltName = `: `DNS:hive-1.lan,URI:spiffe://lan/a`, or `DER:30:…`. */
  readonly san?: string;
  readonly usage?: 'clientAuth' | 'serverAuth';
  /** Ends this many days from now; negative: it ended then. */
  readonly days?: number;
  /** Where it says that the certificate of its issuer is found (authorityInfoAccess), as public authorities do. */
  readonly issuerAt?: string;
}

/** Paths of a certificate and its key. */
export interface OpensslPair {
  readonly cert: string;
  readonly key: string;
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

const OF_AN_AUTHORITY = ['basicConstraints = critical,CA:TRUE', 'keyUsage = keyCertSign,cRLSign'];

/** An authority made by the openssl command, for what a library would not let us make. */
export class OpensslAuthority implements OpensslPair {
  readonly cert: string;
  readonly key: string;
  readonly #folder: string;
  readonly #openssl: string;
  #serial = 1;

  private constructor(folder: string, openssl: string) {
    this.#folder = folder;
    this.#openssl = openssl;
    this.cert = join(folder, 'ca.pem');
    this.key = join(folder, 'ca.key');
  }

  /** A root of its own, in a new folder. */
  static root(openssl: string, folder: string, commonName = 'nodes'): OpensslAuthority {
    const made = OpensslAuthority.#in(openssl, folder);
    made.#run(
      'req',
      '-x509',
      ...KEY,
      '-keyout',
      made.key,
      '-out',
      made.cert,
      '-days',
      '30',
      '-subj',
      `/CN=${commonName}`,
    );
    return made;
  }

  static #in(openssl: string, folder: string): OpensslAuthority {
    mkdirSync(folder, { recursive: true });
    const made = new OpensslAuthority(folder, openssl);
    writeFileSync(made.#file('index.txt'), '');
    writeFileSync(made.#file('crlnumber'), '01\n');
    writeFileSync(
      made.#file('ca.cnf'),
      [
        '[ca]',
        'default_ca = own',
        '[own]',
        `database = ${made.#file('index.txt')}`,
        `crlnumber = ${made.#file('crlnumber')}`,
        'default_md = sha256',
        `certificate = ${made.cert}`,
        `private_key = ${made.key}`,
        '[users]',
        'issuingDistributionPoint = critical,@point',
        '[point]',
        'onlyuser = TRUE',
        '',
      ].join('\n'),
    );
    return made;
  }

  /** An authority below this one. */
  intermediate(name: string): OpensslAuthority {
    const made = OpensslAuthority.#in(this.#openssl, join(this.#folder, name));
    this.#sign(made.key, made.cert, `/CN=${name}`, 20, OF_AN_AUTHORITY);
    return made;
  }

  issue(name: string, options: OpensslIssue = {}): OpensslPair {
    const pair = { cert: this.#file(`${name}.crt`), key: this.#file(`${name}.key`) };
    const extensions = [`extendedKeyUsage = ${options.usage ?? 'clientAuth'}`];
    if (options.san !== undefined) {
      // By its number, the bytes may be any: that is how a name gets a NUL.
      const field = options.san.startsWith('DER:') ? '2.5.29.17' : 'subjectAltName';
      extensions.push(`${field} = ${options.san}`);
    }
    if (options.issuerAt !== undefined) extensions.push(`authorityInfoAccess = caIssuers;URI:${options.issuerAt}`);
    this.#sign(pair.key, pair.cert, options.subject ?? '/O=test', options.days ?? 10, extensions);
    return pair;
  }

  /** Path of another certificate of that authority, issued by this one. */
  crossSign(other: OpensslAuthority, name: string): string {
    const [request, out] = [this.#file('request.csr'), this.#file(`${name}.pem`)];
    this.#run('x509', '-x509toreq', '-in', other.cert, '-signkey', other.key, '-out', request);
    this.#certify(request, out, 20, OF_AN_AUTHORITY);
    return out;
  }

  #sign(key: string, cert: string, subject: string, days: number, extensions: readonly string[]): void {
    const request = this.#file('request.csr');
    this.#run('req', ...KEY, '-keyout', key, '-out', request, '-subj', subject);
    this.#certify(request, cert, days, extensions);
  }

  #certify(request: string, cert: string, days: number, extensions: readonly string[]): void {
    const file = this.#file('extensions');
    writeFileSync(file, `${extensions.join('\n')}\n`);
    this.#run(
      ...['x509', '-req', '-in', request, '-CA', this.cert, '-CAkey', this.key, '-extfile', file, '-out', cert],
      ...['-set_serial', String(this.#serial++), '-days', String(days)],
    );
  }

  /**
   * Path of a fresh revocation list (PEM) of these certificates.
   *
   * @param seconds until it is stale; less than nothing: it was stale then
   * @param about of whom it speaks; of users alone it does in an extension that must be understood (RFC 5280 §5.2.5)
   */
  revoke(certs: readonly OpensslPair[], seconds = 86_400, name = 'list.crl', about: 'all' | 'users' = 'all'): string {
    for (const { cert } of certs) this.#run('ca', '-config', this.#file('ca.cnf'), '-revoke', cert);
    const out = this.#file(name);
    const at = (ms: number): string =>
      new Date(ms)
        .toISOString()
        .replace(/[-:T]|\.\d+/g, '')
        .slice(2);
    const now = Date.now();
    this.#run(
      ...['ca', '-config', this.#file('ca.cnf'), '-gencrl', '-out', out],
      ...(about === 'users' ? ['-crlexts', 'users'] : []),
      ...['-crl_lastupdate', at(now - 2 * 86_400_000), '-crl_nextupdate', at(now + seconds * 1000)],
    );
    return out;
  }

  #file(name: string): string {
    return join(this.#folder, name);
  }

  #run(...args: readonly string[]): void {
    execFileSync(this.#openssl, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  }
}

/** The certificates of these, one after the other. */
export function certificatesOf(...pairs: readonly Pick<OpensslPair, 'cert'>[]): string {
  return pairs.map(({ cert }) => readFileSync(cert, 'utf8')).join('');
}
