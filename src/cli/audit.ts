import type { Command } from 'commander';
import { registerExport } from './audit-export.js';
import { registerTail } from './audit-tail.js';
import { registerVerify } from './audit-verify.js';
import type { Voice } from './voice.js';

export function registerAudit(program: Command, voice: Voice): void {
  const audit = program
    .command('audit')
    .description(
      'Verifies, prints and exports the audit trail (audit: { dir } of the policy). Where a guardbee runs that writes it, it notes there that somebody reads.',
    )
    .addHelpText('after', '\nExample:\n  guardbee audit verify --policy policy.yaml\n');
  registerVerify(audit, voice);
  registerTail(audit, voice);
  registerExport(audit, voice);
}
