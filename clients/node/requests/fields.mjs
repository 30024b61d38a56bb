// Fields of a message.

// The fields that are set; undefined where none is.
export function given(fields) {
  const set = Object.entries(fields).filter(([, value]) => value !== undefined);
  return set.length === 0 ? undefined : Object.fromEntries(set);
}
