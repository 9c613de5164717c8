/** What a route asks of a request besides who sent it, decided when the policy compiles. */

/** Null members: nothing of that kind. A route without any demand has null in place of the whole. */
export interface Demands {
  readonly owner: OwnerDemand | null;
}

/** Only who made a thing may use it. */
export interface OwnerDemand {
  /** The parameter of the path that names the thing. */
  readonly parameter: string;
  /** Permissions or roles that may use everybody's. */
  readonly unless: readonly string[];
}
