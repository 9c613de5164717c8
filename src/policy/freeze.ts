/** Freezes a value and everything in it. Maps and sets lose the methods that change them. */
export function deepFreeze<T>(value: T): T {
  freeze(value, new Set());
  return value;
}

function freeze(value: unknown, seen: Set<object>): void {
  if (typeof value !== 'object' || value === null || seen.has(value)) return;
  // Bytes cannot be frozen; those of a Secret are behind a private name.
  if (ArrayBuffer.isView(value)) return;
  seen.add(value);
  if (value instanceof Map) {
    for (const [key, entry] of value) {
      freeze(key, seen);
      freeze(entry, seen);
    }
    refuse(value, ['set', 'delete', 'clear']);
  } else if (value instanceof Set) {
    for (const entry of value) freeze(entry, seen);
    refuse(value, ['add', 'delete', 'clear']);
  } else {
    for (const entry of Object.values(value)) freeze(entry, seen);
  }
  Object.freeze(value);
}

function refuse(value: object, methods: readonly string[]): void {
  if (Object.isFrozen(value)) return;
  for (const method of methods) {
    Object.defineProperty(value, method, {
      value: () => {
        throw new TypeError('a compiled policy does not change');
      },
    });
  }
}
