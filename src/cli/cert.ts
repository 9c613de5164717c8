import type { Command } from 'commander';
import { LARGEST_SECRET, currentReader, readFile } from '../secret/files.js';
import {
  type CertificateDescription,
  CertificateError,
  type CertificateErrorCode,
  describeCertificate,
} from '../server/certificate.js';
import { ensureSelfSigned } from '../server/self-signed.js';
import { registerIssued } from './cert-issued.js';
import { inJson, linesOf, validity } from './certificate-text.js';
import { EXIT, Ending, ending } from './exit-code.js';
import { gatherNames } from './policy-source.js';
import type { Voice } from './voice.js';

export function registerCert(program: Command, voice: Voice): void {
  const cert = program
    .command('cert')
    .description('Makes a certificate for development, or says what one holds, or what an authority has issued.')
    .addHelpText('after', '\nExample:\n  guardbee cert show server.crt\n');
  registerDev(cert, voice);
  registerShow(cert, voice);
  registerIssued(cert, voice);
}

interface DevOptions {
  readonly name?: readonly string[];
  readonly dir?: string;
  readonly json?: true;
}

function registerDev(cert: Command, voice: Voice): void {
  cert
    .command('dev')
    .description(
      'Makes a self-signed certificate and its key (mode 0600), or leaves the one that is there when it has these names and more than 30 days left.',
    )
    .option('--name <name...>', 'names and addresses that clients will use', gatherNames)
    .option('--dir <dir>', 'folder to put them in; made, with mode 0700, where there is none')
    .option('--json', 'report as JSON')
    .addHelpText('after', '\nExample:\n  guardbee cert dev --name localhost 127.0.0.1 --dir tls\n')
    .action(
      ending(async (options: DevOptions) => {
        if (options.name === undefined) throw new Ending(EXIT.usage, 'for which names? Say --name NAME');
        if (options.dir === undefined) throw new Ending(EXIT.usage, 'into which folder? Say --dir DIR');
        return await dev(options.name, options.dir, voice, options.json === true);
      }),
    );
}

const CODES: Readonly<Partial<Record<CertificateErrorCode, number>>> = {
  bad_name: EXIT.usage,
  key_too_open: EXIT.secret,
  dir_too_open: EXIT.secret,
};

async function dev(names: readonly string[], dir: string, voice: Voice, json: boolean): Promise<number> {
  try {
    const made = await ensureSelfSigned(dir, names);
    const described = describeCertificate(made.certPem);
    if (json) {
      voice.json({ cert: made.certFile, key: made.keyFile, created: made.created, ...inJson(described, Date.now()) });
      return EXIT.ok;
    }
    voice.out(made.created ? `made ${made.certFile} and ${made.keyFile}` : `${made.certFile} serves on`);
    for (const line of linesOf(described, Date.now())) voice.out(line);
    voice.out(`In a policy:  tls: { cert: ${made.certFile}, key: ${made.keyFile} }`);
    voice.out(`With curl:    curl --cacert ${made.certFile} https://${described.names[0] ?? 'localhost'}:PORT/`);
    return EXIT.ok;
  } catch (error) {
    if (error instanceof CertificateError) throw new Ending(CODES[error.code] ?? EXIT.policy, error.message);
    throw error;
  }
}

function registerShow(cert: Command, voice: Voice): void {
  cert
    .command('show')
    .description(
      'Says whose a certificate is, for which names, and until when. Of a file with several it tells each. Exits with 1 when one is not valid now.',
    )
    .argument('<file>', 'PEM file')
    .option('--json', 'report as JSON')
    .addHelpText('after', '\nExample:\n  guardbee cert show server.crt\n')
    .action(
      ending(async (file: string, options: { readonly json?: true }) => {
        return await showFile(file, voice, options.json === true);
      }),
    );
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

async function showFile(file: string, voice: Voice, json: boolean): Promise<number> {
  const { bytes, fault } = await readFile(file, 'any', LARGEST_SECRET, currentReader(process.env));
  if (bytes === null) {
    throw new Ending(
      EXIT.policy,
      `${file}: ${fault?.kind === 'missing' ? 'there is no such file' : 'it cannot be read'}`,
    );
  }
  const blocks = bytes.toString('latin1').match(CERTIFICATE) ?? [];
  bytes.fill(0);
  if (blocks.length === 0) throw new Ending(EXIT.policy, `${file}: there is no PEM certificate in it`);
  const now = Date.now();
  const described = blocks.map((block) => describeBlock(block, file));
  if (json) voice.json({ file, certificates: described.map((one) => inJson(one, now)) });
  else {
    for (const [index, one] of described.entries()) {
      if (described.length > 1) voice.out(`${file}, certificate ${index + 1} of ${described.length}`);
      for (const line of linesOf(one, now)) voice.out(line);
    }
  }
  return described.every((one) => validity(one, now) === 'valid') ? EXIT.ok : EXIT.policy;
}

function describeBlock(block: string, file: string): CertificateDescription {
  try {
    return describeCertificate(block);
  } catch {
    throw new Ending(EXIT.policy, `${file}: a certificate in it cannot be read`);
  }
}
