import { stat } from 'node:fs/promises';
import * as path from 'node:path';
import { LARGEST_DOCUMENT, parseDocument } from '../../policy/document.js';
import { type Reference, references } from '../../policy/material.js';
import type { Policy } from '../../policy/policy.js';
import { policySchema } from '../../policy/schema.js';
import { validate } from '../../policy/validate.js';
import { currentReader, readFile as readPrivate } from '../../secret/files.js';
import { count } from '../check.js';
import type { PolicySource } from '../policy-source.js';
import { type Finding, failed, ok } from './finding.js';

export async function lookAtPolicyFile(source: PolicySource): Promise<Finding[]> {
  const found = await stat(source.file).catch(() => null);
  // What is wrong with it is among the issues.
  if (found === null || (found.mode & 0o022) !== 0) return [];
  return [ok('policy', `${source.file} has mode ${octal(found.mode)}`)];
}

function octal(mode: number): string {
  return `0${(mode & 0o777).toString(8)}`;
}

export async function lookAtSecretFiles(source: PolicySource, policy: Policy): Promise<Finding[]> {
  const text = await source.text();
  if (text === null) return [];
  const folder = path.dirname(path.resolve(policy.file));
  const files = references(validate(parseDocument(text, policy.file), policySchema)).flatMap(secretFiles);
  const described = await Promise.all(
    [...new Set(files.map((file) => path.resolve(folder, file)))].map(async (file) => {
      const { bytes, fault } = await readPrivate(
        file,
        'private',
        LARGEST_DOCUMENT,
        currentReader(process.env, policy.secretMounts),
      );
      bytes?.fill(0);
      const found = fault === null ? await stat(file).catch(() => null) : null;
      return found === null ? [] : [`${file} ${octal(found.mode)}`];
    }),
  );
  // The others are among the issues.
  const fine = described.flat();
  return fine.length === 0 ? [] : [ok('secret', `${count(fine.length, 'file')} fine: ${fine.join(', ')}`)];
}

function secretFiles(reference: Reference): string[] {
  switch (reference.kind) {
    case 'tokens_file':
    case 'htpasswd_file':
      return [reference.file];
    case 'certificate':
      return [reference.key];
    case 'secret':
    case 'token':
      return 'file' in reference.reference ? [reference.reference.file] : [];
    case 'key_file':
    case 'host':
    case 'client_authority':
    case 'gateways':
      return [];
  }
}

export async function lookAtStateDirectory(policy: Policy): Promise<Finding[]> {
  const found = await stat(policy.stateDir).catch(() => null);
  if (found === null) return [ok('state', `${policy.stateDir} is made at the first start`)];
  if (!found.isDirectory()) return [failed('state', `${policy.stateDir} is not a folder`, 'move it away')];
  return (found.mode & 0o077) === 0
    ? [ok('state', `${policy.stateDir} has mode ${octal(found.mode)}`)]
    : [
        failed(
          'state',
          `others may enter ${policy.stateDir} (mode ${octal(found.mode)})`,
          `chmod 700 ${policy.stateDir}`,
        ),
      ];
}
