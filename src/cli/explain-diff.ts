import { type Difference, differences } from '../gate/verdict.js';
import { EXIT } from './exit-code.js';
import type { Explanation } from './explanation.js';
import type { Answer } from './question.js';
import type { Line, Voice } from './voice.js';

/** Says both, and in what they differ. @returns the exit code: 1 where they do */
export function tellDifference(
  first: Answer,
  other: Answer,
  files: readonly [string, string],
  asJson: boolean,
  voice: Voice,
): number {
  const differsIn = differences(first.verdict, other.verdict);
  const same = differsIn.length === 0;
  if (asJson) voice.json({ same, differs_in: differsIn, first: first.explanation, other: other.explanation });
  else for (const line of linesOf(first, other, files, differsIn)) voice.out(line);
  return same ? EXIT.ok : EXIT.policy;
}

function* linesOf(
  { explanation: first }: Answer,
  { explanation: other }: Answer,
  files: readonly [string, string],
  differsIn: readonly Difference[],
): Generator<Line> {
  yield differsIn.length === 0
    ? [{ tone: 'good', text: 'same' }, ': client and upstream would see no difference']
    : [{ tone: 'bad', text: 'differs' }, `: in ${differsIn.map((one) => WORDS[one]).join(' and ')}`];
  const width = Math.max(...files.map((file) => file.length));
  for (const [label, said] of ROWS) {
    const [a, b] = [said(first), said(other)];
    const name = (text: string): string => `  ${text.padEnd(10)}`;
    if (a === b && label !== 'decided:') {
      yield `${name(label)}${a}`;
      continue;
    }
    yield `${name(label)}${files[0].padEnd(width)}  ${a}`;
    yield `${name('')}${files[1].padEnd(width)}  ${b}`;
  }
}

const WORDS: Readonly<Record<Difference, string>> = {
  verdict: 'the verdict',
  reason: 'the reason',
  upstream: 'the upstream',
  who: 'what the upstream is told of the caller',
};

const ROWS: readonly (readonly [label: string, said: (explanation: Explanation) => string])[] = [
  ['verdict:', verdictText],
  ['listener:', ({ listener }) => listener],
  ['route:', ({ route }) => route ?? 'none'],
  [
    'decided:',
    ({ line, text }) => (line === null ? 'by no line of the policy' : `line ${String(line)}: ${text ?? ''}`),
  ],
  ['why:', ({ why }) => why],
];

function verdictText({ decision, status, reason, upstream }: Explanation): string {
  return decision === 'allowed'
    ? `allowed: goes on to ${upstream ?? ''}`
    : `refused: ${String(status)} ${reason ?? ''}`;
}
