import { didYouMean } from './did-you-mean.js';
import type { Draft } from './draft.js';
import { isShowable, show } from './found.js';
import type { Issue, IssueCode } from './issue.js';
import { NAME } from './name.js';
import { issueAt } from './validate.js';

/** What the compiler finds. An issue at a node that nobody wrote is not told: the one that put it there was. */
export class Findings {
  readonly errors: Issue[] = [];
  readonly warnings: Issue[] = [];

  error(code: IssueCode, node: Draft | null, place: 'key' | 'value', message: string, hint?: string): void {
    if (node === null || node.standIn) return;
    this.errors.push(issueAt(code, node, place, message, hint));
  }

  /** A key is missing from the entry `node`. */
  missing(node: Draft | null, key: string, message: string, hint?: string): void {
    if (node === null || node.standIn || node.dropped.has(key)) return;
    const issue = issueAt('missing_key', node, 'key', message, hint);
    this.errors.push({ ...issue, key: issue.key === '' ? key : `${issue.key}.${key}` });
  }

  warn(code: IssueCode, node: Draft | null, place: 'key' | 'value', message: string, hint?: string): void {
    if (node === null || node.standIn) return;
    this.warnings.push(issueAt(code, node, place, message, hint, 'warning'));
  }

  /** A user that is not in the htpasswd file. @param known the names that are */
  unknownUser(node: Draft | null, name: string, known: ReadonlySet<string>): void {
    const names = [...known].filter(isShowable);
    const meant = isShowable(name) ? didYouMean(name, names) : undefined;
    this.error(
      'unknown_name',
      node,
      'value',
      `there is no user ${show(name)} in the htpasswd file; it has ${names.length > 12 ? `${known.size} others` : names.map(show).join(', ')}`,
      meant === undefined ? 'add the user with htpasswd -B, or remove this entry' : `did you mean ${meant}?`,
    );
  }

  /** A name that nothing in the policy has. */
  unknownName(node: Draft | null, what: string, name: string, known: Iterable<string>): void {
    const names = [...known].filter((one) => NAME.test(one) && isShowable(one));
    const meant = isShowable(name) ? didYouMean(name, names) : undefined;
    const listed =
      names.length === 0
        ? `the policy has none`
        : names.length > 12
          ? `there are ${names.length} others`
          : `there ${names.length === 1 ? 'is' : 'are'} ${names.join(', ')}`;
    this.error(
      'unknown_name',
      node,
      'value',
      `there is no ${what} ${show(name)}; ${listed}`,
      meant === undefined ? undefined : `did you mean ${meant}?`,
    );
  }
}
