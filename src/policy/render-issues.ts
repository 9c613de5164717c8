import { ISSUES } from './issue.js';
import type { Issue, IssueClass } from './issue.js';

const EXIT_CODES: Readonly<Record<IssueClass, number>> = { policy: 1, bind: 3, secret: 4 };

/** With issues of several classes the first of these decides. */
const ORDER: readonly IssueClass[] = ['policy', 'bind', 'secret'];

/** The exit code for these issues; 0 where none is an error. */
export function exitCodeFor(issues: readonly Issue[]): number {
  const classes = new Set(issues.filter((issue) => issue.severity === 'error').map((issue) => ISSUES[issue.code]));
  const first = ORDER.find((one) => classes.has(one));
  return first === undefined ? 0 : EXIT_CODES[first];
}

/** By place, that of the policy itself first; each thing once. */
export function sortIssues(issues: readonly Issue[], policyFile: string): Issue[] {
  const seen = new Set<string>();
  const once = issues.filter((issue) => {
    const key = JSON.stringify([
      issue.severity,
      issue.file,
      issue.line,
      issue.column,
      issue.key,
      issue.code,
      issue.message,
    ]);
    return !seen.has(key) && seen.add(key);
  });
  const rank = (issue: Issue): number => (issue.file === policyFile ? 0 : 1);
  return once.sort(
    (a, b) =>
      rank(a) - rank(b) || (a.file < b.file ? -1 : a.file > b.file ? 1 : 0) || a.line - b.line || a.column - b.column,
  );
}

/**
 * For people: `file:line:col key: what was found, what is allowed`, the fix below it, and a count at the end. Empty
 * when there is nothing to tell.
 */
export function renderIssues(issues: readonly Issue[]): string {
  if (issues.length === 0) return '';
  const lines = issues.flatMap((issue) => {
    const place = issue.line === 0 ? issue.file : `${issue.file}:${issue.line}:${issue.column}`;
    const severity = issue.severity === 'warning' ? 'warning: ' : '';
    const text = `${place}${issue.key === '' ? '' : ` ${issue.key}`}: ${severity}${issue.message}`;
    return issue.hint === undefined ? [text] : [text, `    fix: ${issue.hint}`];
  });
  return `${lines.join('\n')}\n${countOf(issues)}\n`;
}

function countOf(issues: readonly Issue[]): string {
  const errors = issues.filter((issue) => issue.severity === 'error').length;
  const warnings = issues.length - errors;
  const parts = [];
  if (errors > 0) parts.push(errors === 1 ? '1 error' : `${errors} errors`);
  if (warnings > 0) parts.push(warnings === 1 ? '1 warning' : `${warnings} warnings`);
  return parts.join(', ') + (errors > 0 ? '; nothing of this policy is used' : '');
}
