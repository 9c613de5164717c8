import { perform } from './program.js';
import { unexpected } from './unexpected.js';

/** A process that is `guardbee VERB …` and nothing else: what nobody caught ends it, in one line and without a stack. */
export async function asProgram(argv: readonly string[]): Promise<number> {
  process.on('uncaughtException', (error) => {
    process.stderr.write(`${unexpected(error)}\n`);
    process.exit(1);
  });
  return await perform(argv);
}
