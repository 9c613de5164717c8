/**
 * Types and rules: what the compiler and ESLint complain of. Both need to know the type of everything, which takes half a
 * minute of one core; one program serves both.
 */
import { join } from 'node:path';
import { ESLint } from 'eslint';
import ts from 'typescript';
import { ROOT } from './setup.mjs';

const configFile = join(ROOT, 'tsconfig.json');
const host = {
  ...ts.sys,
  onUnRecoverableConfigFileDiagnostic: (diagnostic) => {
    throw new Error(ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n'));
  },
};
const { fileNames, options } = ts.getParsedCommandLineOfConfigFile(
  configFile,
  { noEmit: true, incremental: false },
  host,
);
// The one with the outputs of a build has the place of its record too.
delete options.tsBuildInfoFile;
const program = ts.createProgram({ rootNames: fileNames, options });
const complaints = ts.getPreEmitDiagnostics(program);
if (complaints.length > 0) {
  process.stdout.write(
    ts.formatDiagnostics(complaints, {
      getCurrentDirectory: () => ROOT,
      getCanonicalFileName: (name) => name,
      getNewLine: () => '\n',
    }),
  );
}
const eslint = new ESLint({
  cwd: ROOT,
  overrideConfig: { files: ['**/*.ts'], languageOptions: { parserOptions: { programs: [program], project: null } } },
});
const results = await eslint.lintFiles(['.']);
const formatter = await eslint.loadFormatter('stylish');
process.stdout.write(await formatter.format(results));
const broken = results.some(({ errorCount, warningCount }) => errorCount + warningCount > 0);
if (broken || complaints.length > 0) process.exitCode = 1;
