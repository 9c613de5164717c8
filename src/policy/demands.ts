/** What a route asks of a request besides who sent it, decided when the policy compiles. */
import type { Check } from '../check/check.js';

import type { LimitDemand } from './limit-rules.js';

/** Null members: nothing of that kind. A route without any demand has null in place of the whole. */
export interface Demands {
  readonly head: HeadChecks | null;
  readonly body: BodyDemand | null;
  readonly owner: OwnerDemand | null;
  /** How often and how many at once. */
  readonly limits: LimitDemand | null;
}

/** What is checked before a body is looked at. */
export interface HeadChecks {
  readonly path: readonly ParameterCheck[];
  /** Names as they are when decoded. */
  readonly query: readonly NamedCheck[];
  readonly queryNames: ReadonlySet<string>;
  /** Names in lower case. */
  readonly headers: readonly NamedCheck[];
}

export interface NamedCheck {
  readonly name: string;
  readonly check: Check;
}

export interface ParameterCheck extends NamedCheck {
  /** Which segment of the path the parameter is, from 0. */
  readonly segment: number;
}

export interface BodyDemand {
  /** In bytes. */
  readonly most: number;
  /** Null: nobody looks into it, and it is never held. */
  readonly json: JsonRules | null;
}

/** What the JSON of a body must be. */
export interface JsonRules {
  /** What is asked for stands in one field, and each value of it has permissions of its own. */
  readonly byValue: ByValue | null;
  readonly checks: readonly MemberCheck[];
}

export interface ByValue {
  readonly pointer: readonly string[];
  /** Any one of these names (permissions or roles) is enough. What is not listed nobody may ask for. */
  readonly permissions: ReadonlyMap<string, readonly string[]>;
}

export interface MemberCheck extends NamedCheck {
  /** Reference tokens; `*` is each element of a list. */
  readonly pointer: readonly string[];
}

/** Only who made a thing may use it. */
export interface OwnerDemand {
  /** The parameter of the path that names the thing. */
  readonly parameter: string;
  /** Which segment of the path it is, from 0. */
  readonly segment: number;
  /** Permissions or roles that may use everybody's. */
  readonly unless: readonly string[];
}
