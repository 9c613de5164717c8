import { readdir, stat } from 'node:fs/promises';
import type { Stats } from 'node:fs';
import * as path from 'node:path';
import { LARGEST_DOCUMENT, parseDocument } from '../../policy/document.js';
import { type Reference, references } from '../../policy/material.js';
import type { Policy } from '../../policy/policy.js';
import { policySchema } from '../../policy/schema.js';
import { validate } from '../../policy/validate.js';
import { type Demand, currentReader, judgeWay, readFile } from '../../secret/files.js';
import { count } from '../check.js';
import type { PolicySource } from '../policy-source.js';
import { type Finding, failed, ok, skipped, warn } from './finding.js';

/** A file that the policy names. `private` holds a secret; of `trusted` others may read, but not change it. */
interface Named {
  readonly file: string;
  readonly demand: Extract<Demand, 'private' | 'trusted'>;
}

/** @param policy null: it cannot be used, and only its own file is looked at */
export async function lookAtFiles(source: PolicySource, policy: Policy | null): Promise<Finding[]> {
  const text = await source.text();
  if (text === null) return [];
  const own = await stat(source.file).catch(() => null);
  // Standard input is no file. What is wrong with the policy's own mode is among the issues.
  const policyFile: Finding[] =
    own === null
      ? []
      : [
          ...((own.mode & 0o022) === 0 ? [ok('policy', `${source.file} has mode ${octal(own.mode)}`)] : []),
          ...(await judgePlace('policy', source.file, own, await trustedOwners(policy))),
        ];
  if (policy === null) return policyFile;
  const folder = path.dirname(path.resolve(policy.file));
  const named = references(validate(parseDocument(text, policy.file), policySchema)).flatMap(filesOf);
  if (policy.log.file !== null) named.push({ file: policy.log.file, demand: 'trusted' });
  const unique = new Map(named.map(({ file, demand }) => [path.resolve(folder, file), demand]));
  const owners = await trustedOwners(policy);
  const looked = await Promise.all([...unique].map(([file, demand]) => lookAtFile(file, demand, policy, owners)));
  return [...policyFile, ...summary('secret', looked, 'private'), ...summary('file', looked, 'trusted')];
}

interface Looked {
  readonly demand: Named['demand'];
  readonly findings: readonly Finding[];
  /** Null where something is wrong with it. */
  readonly fine: string | null;
}

function summary(check: string, looked: readonly Looked[], demand: Named['demand']): Finding[] {
  const those = looked.filter((one) => one.demand === demand);
  const fine = those.flatMap((one) => (one.fine === null ? [] : [one.fine]));
  return [
    ...(fine.length === 0 ? [] : [ok(check, `${count(fine.length, 'file')} fine: ${fine.join(', ')}`)]),
    ...those.flatMap(({ findings }) => findings),
  ];
}

async function lookAtFile(
  file: string,
  demand: Named['demand'],
  policy: Policy,
  owners: ReadonlySet<number> | null,
): Promise<Looked> {
  const found = await stat(file).catch(() => null);
  // Missing ones are among the issues; a log file is made at the first start.
  if (found === null) return { demand, findings: [], fine: null };
  const check = demand === 'private' ? 'secret' : 'file';
  const findings: Finding[] = [];
  const reader = currentReader(process.env, policy.secretMounts);
  const { bytes, fault } = await readFile(file, demand, LARGEST_DOCUMENT, reader);
  bytes?.fill(0);
  if (demand === 'trusted') {
    // Whatever else keeps it from being read is among the issues. Certificates are read without a look at their mode.
    if (fault?.kind === 'too_open')
      findings.push(failed(check, `${file}: ${fault.why} (mode ${fault.mode})`, fault.fix));
    findings.push(...(await judgePlace(check, file, found, owners)));
  } else if (fault === null) {
    findings.push(...judgeOwner(check, file, found, owners));
  }
  const isFine = findings.length === 0 && (demand === 'trusted' || fault === null);
  return { demand, findings, fine: isFine ? `${file} ${octal(found.mode)}` : null };
}

async function judgePlace(
  check: string,
  file: string,
  found: Stats,
  owners: ReadonlySet<number> | null,
): Promise<Finding[]> {
  const way = await judgeWay(file);
  return [
    ...(way === null ? [] : [failed(check, `${file}: ${way.why} (mode ${way.mode})`, way.fix)]),
    ...judgeOwner(check, file, found, owners),
  ];
}

function judgeOwner(check: string, file: string, { uid }: Stats, owners: ReadonlySet<number> | null): Finding[] {
  if (owners === null || owners.has(uid)) return [];
  return [
    warn(
      check,
      `${file} belongs to user ${String(uid)}, who is neither root nor the one that guardbee runs as, and may change it`,
      `chown root ${file}`,
    ),
  ];
}

/** Whose files are taken as they are: root's, our own, and of who has the state directory. Null: users have no numbers here. */
async function trustedOwners(policy: Policy | null): Promise<ReadonlySet<number> | null> {
  const own = process.geteuid?.();
  if (own === undefined) return null;
  const state = policy === null ? null : await stat(policy.stateDir).catch(() => null);
  return new Set([0, own, ...(state === null ? [] : [state.uid])]);
}

export function octal(mode: number): string {
  return `0${(mode & 0o777).toString(8)}`;
}

function filesOf(reference: Reference): Named[] {
  switch (reference.kind) {
    case 'tokens_file':
    case 'htpasswd_file':
      return [{ file: reference.file, demand: 'private' }];
    case 'certificate':
      return [
        { file: reference.cert, demand: 'trusted' },
        { file: reference.key, demand: 'private' },
      ];
    case 'secret':
    case 'token':
      return 'file' in reference.reference ? [{ file: reference.reference.file, demand: 'private' }] : [];
    case 'key_file':
      return [{ file: reference.file, demand: 'trusted' }];
    case 'client_authority':
      return [reference.ca, ...(reference.crl === null ? [] : [reference.crl])].map((file) => ({
        file,
        demand: 'trusted',
      }));
    case 'host':
    case 'gateways':
      return [];
  }
}

// ---------------------------------------------------------------------------------------------------------------
// The state directory

/** Far more than there ever are. */
const MOST_ENTRIES = 20_000;
/** Certificates and public keys, which are for everybody. */
const PUBLIC = /\.(?:crt|pub\.pem)$/;

export async function lookAtStateDirectory(policy: Policy): Promise<Finding[]> {
  const check = 'state';
  const dir = policy.stateDir;
  const found = await stat(dir).catch(() => null);
  if (found === null) return [ok(check, `${dir} is made at the first start`)];
  if (!found.isDirectory()) return [failed(check, `${dir} is not a folder`, 'move it away')];
  const way = await judgeWay(dir);
  const findings = [
    ...((found.mode & 0o077) === 0
      ? []
      : [failed(check, `others may enter ${dir} (mode ${octal(found.mode)})`, `chmod 700 ${dir}`)]),
    ...(way === null ? [] : [failed(check, `${dir}: ${way.why} (mode ${way.mode})`, way.fix)]),
    ...(await judgeEntries(check, dir, found)),
  ];
  return findings.length === 0
    ? [ok(check, `${dir} has mode ${octal(found.mode)}, and so has what is in it`)]
    : findings;
}

/** Everything in a folder of guardbee's own: nobody else may read it, and it has the owner of the folder. */
export async function judgeEntries(check: string, dir: string, { uid }: Stats): Promise<Finding[]> {
  const names = await readdir(dir, { recursive: true }).catch(() => null);
  if (names === null) {
    return [skipped(check, `${dir} cannot be looked into`, 'run doctor as the user that guardbee runs as')];
  }
  const open: string[] = [];
  const foreign: string[] = [];
  for (const name of names.slice(0, MOST_ENTRIES)) {
    const file = path.join(dir, name);
    const found = await stat(file).catch(() => null);
    if (found === null) continue;
    if ((found.mode & (found.isFile() && PUBLIC.test(name) ? 0o022 : 0o077)) !== 0) open.push(file);
    if (found.uid !== uid) foreign.push(file);
  }
  return [
    ...(open.length === 0 ? [] : [failed(check, `others may read or change ${some(open)}`, `chmod -R go-rwx ${dir}`)]),
    ...(foreign.length === 0
      ? []
      : [
          failed(
            check,
            `${some(foreign)} ${foreign.length === 1 ? 'does' : 'do'} not belong to user ${String(uid)}, who has the folder: guardbee may not be able to write there`,
            `chown -R ${String(uid)} ${dir}`,
          ),
        ]),
  ];
}

/** The first few of a list. */
function some(files: readonly string[]): string {
  const more = files.length - 3;
  return more > 0 ? `${files.slice(0, 3).join(', ')} and ${count(more, 'other')}` : files.join(', ');
}
