// What is given for an option, held against what it may be. JavaScript would make another value of it: 0 of NaN.

const LONE_SURROGATE = /\p{Surrogate}/u;

// Each: whether a value is right, and what to say of one that is not.
export const string = [(value) => typeof value === 'string' && !LONE_SURROGATE.test(value), 'a string of whole characters'];
export const boolean = [(value) => typeof value === 'boolean', 'true or false'];
export const number = [Number.isFinite, 'a number'];
export const float = [(value) => typeof value === 'number' && Number.isFinite(Math.fround(value)), 'a number of 32 bits'];
export const bytes = [(value) => value instanceof Uint8Array, 'a Uint8Array'];
export const signal = [(value) => value instanceof AbortSignal, 'an AbortSignal'];
export const object = [(value) => typeof value === 'object' && value !== null, 'an object'];
export const objectOrNull = [(value) => typeof value === 'object', 'an object'];
export const array = [Array.isArray, 'an array'];
export const int32 = [(value) => value === (value | 0), 'a whole number of 32 bits'];
export const int64 = [
  (value) => (typeof value === 'bigint' ? BigInt.asIntN(64, value) === value : Number.isSafeInteger(value)),
  'a whole number of 64 bits, from 2^53 on a BigInt',
];
// Of a string the characters, which are never meant.
export const iterable = (meaning) => [
  (value) => object[0](value) && (Symbol.asyncIterator in value || Symbol.iterator in value), meaning,
];
export const oneOf = (names) => [(value) => names.includes(value), `one of ${names.join(', ')}`];

// Throws TypeError for an option that there is not, and for a wrong value. kinds: of all options, by name
export function checkOptions(where, options, kinds) {
  checkValue(where, options, object);
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(kinds, name)) {
      throw new TypeError(`There is no '${name}' in ${where}; there is ${Object.keys(kinds).join(', ')}.`);
    }
    if (value !== undefined) checkValue(`${where}.${name}`, value, kinds[name]);
  }
}

// Throws TypeError. Of what may be long, or a secret, it has the type.
export function checkValue(name, value, kind) {
  const [isRight, meaning] = kind;
  if (isRight(value)) return;
  const isText = typeof value === 'string';
  const isLong = isText ? kind === string : object[0](value);
  const given = isLong ? `of type ${typeof value}` : isText ? `'${value.slice(0, 40)}'` : String(value);
  throw new TypeError(`${name} is ${given}; it must be ${meaning}.`);
}
