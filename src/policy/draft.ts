import type { DocumentNode, PathPart } from './document.js';

/**
 * A copy of a document's tree that broken entries are taken out of, so that the rest can be looked at in the same run.
 * Nodes keep where they came from, and remember what was taken out of them: a thing that was written and found broken
 * is not also missing.
 */
export class Draft {
  readonly origin: DocumentNode;
  readonly parent: Draft | null;
  readonly entries = new Map<string, Draft>();
  readonly items: Draft[] = [];
  /** Of a scalar. */
  readonly value: string | number | boolean | null;
  /** Keys that were written and taken out. */
  readonly dropped = new Set<string>();
  /** Something at or below this node was taken out or replaced: conclusions from what is absent don't hold. */
  tainted = false;
  /** The key that was probably meant, where another was written. */
  meant: string | null = null;
  /** Not written by anyone: stands where a broken value was, so that its surroundings can be read. */
  readonly standIn: boolean;

  private constructor(origin: DocumentNode, parent: Draft | null, standIn: boolean) {
    this.origin = origin;
    this.parent = parent;
    this.value = origin.kind === 'scalar' ? origin.value : null;
    this.standIn = standIn;
    if (origin.kind === 'list') {
      for (const item of origin.items) {
        if (item.kind === 'hole') this.#taint();
        else this.items.push(new Draft(item, this, standIn));
      }
    } else if (origin.kind === 'map') {
      for (const [key, entry] of origin.entries) {
        if (entry.kind === 'hole') {
          this.dropped.add(key);
          this.#taint();
        } else {
          this.entries.set(key, new Draft(entry, this, standIn));
        }
      }
    }
  }

  static of(root: DocumentNode): Draft {
    return new Draft(root, null, false);
  }

  get kind(): 'map' | 'list' | 'scalar' | 'hole' {
    return this.origin.kind;
  }

  /** The node at this path, which is one of the tree as it is now. */
  at(path: readonly PropertyKey[]): Draft | null {
    return path.reduce<Draft | null>((node, part) => (node === null ? null : node.#step(part)), this);
  }

  #step(part: PropertyKey): Draft | null {
    if (typeof part === 'number') return this.items[part] ?? null;
    return typeof part === 'string' ? (this.entries.get(part) ?? null) : null;
  }

  get(key: string): Draft | null {
    return this.entries.get(key) ?? null;
  }

  /** Was the key written, even if what stood there was broken. */
  declares(key: string): boolean {
    return this.entries.has(key) || this.dropped.has(key);
  }

  /** Takes this node out of its parent. A list that is left empty goes with it. False for the root. */
  remove(): boolean {
    const parent = this.parent;
    if (parent === null) return false;
    parent.#taint();
    const index = parent.items.indexOf(this);
    if (index >= 0) {
      parent.items.splice(index, 1);
      return parent.items.length > 0 || parent.remove();
    }
    for (const [key, entry] of parent.entries) {
      if (entry !== this) continue;
      parent.entries.delete(key);
      parent.dropped.add(key);
    }
    return true;
  }

  /** Puts a value in place of what was broken or missing under `key`. */
  putStandIn(key: string, value: StandIn): void {
    this.dropped.add(key);
    this.#taint();
    this.entries.set(key, new Draft(standInNode(value, this.origin, [...this.origin.path, key]), this, true));
  }

  /** Where it stands in the tree as it is now: keys are those that were probably meant. */
  get path(): readonly PathPart[] {
    if (this.parent === null) return this.origin.path;
    const own = this.meant ?? this.origin.path.at(-1);
    return own === undefined ? this.parent.path : [...this.parent.path, own];
  }

  /** Moves an entry to the key that was probably meant. */
  rename(from: string, to: string): void {
    const entry = this.entries.get(from);
    if (entry === undefined) return;
    this.entries.delete(from);
    this.dropped.add(from);
    this.entries.set(to, entry);
    entry.meant = to;
    this.#taint();
  }

  /** The tree as plain data, without prototypes. */
  plain(): unknown {
    if (this.kind === 'list') return this.items.map((item) => item.plain());
    if (this.kind !== 'map') return this.value;
    const plain = Object.create(null) as Record<string, unknown>;
    for (const [key, entry] of this.entries) plain[key] = entry.plain();
    return plain;
  }

  #taint(): void {
    if (this.tainted) return;
    this.tainted = true;
    if (this.parent !== null) this.parent.#taint();
  }
}

export type StandIn = string | number | boolean | readonly StandIn[] | { readonly [key: string]: StandIn };

function standInNode(value: StandIn, near: DocumentNode, path: readonly PathPart[]): DocumentNode {
  const base = { file: near.file, path, at: near.at, keyAt: near.keyAt };
  if (Array.isArray(value)) {
    const items = (value as readonly StandIn[]).map((item, index) => standInNode(item, near, [...path, index]));
    return { ...base, kind: 'list', items };
  }
  if (typeof value === 'object') {
    const entries = Object.entries(value).map(
      ([key, entry]) => [key, standInNode(entry, near, [...path, key])] as const,
    );
    return { ...base, kind: 'map', entries: new Map(entries) };
  }
  return { ...base, kind: 'scalar', value };
}
