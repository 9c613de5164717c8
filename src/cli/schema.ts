import type { Command } from 'commander';
import { policyJsonSchema } from '../policy/schema.js';
import { EXIT, ending } from './exit-code.js';
import type { Voice } from './voice.js';

export function registerSchema(program: Command, voice: Voice): void {
  program
    .command('schema')
    .description('Prints the JSON Schema of the policy file. Editors complete and check by it.')
    .addHelpText('after', '\nExample:\n  guardbee schema > policy.schema.json\n')
    .action(
      ending(async () => {
        voice.json(policyJsonSchema());
        return EXIT.ok;
      }),
    );
}
