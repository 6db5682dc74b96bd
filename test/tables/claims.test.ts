import { type AttributeMapping, assertIdentity, JitError, readClaims } from 'passport-jit'
import { describe, expect, test } from 'vitest'

const read = (claims: Record<string, unknown>, mapping: Partial<AttributeMapping> = {}) =>
  readClaims(claims, { email: 'email', ...mapping } as AttributeMapping)
const name = (claims: Record<string, unknown>, from: AttributeMapping[string]) =>
  read(claims, { name: from }).profile.name
const groups = (claim: unknown) => {
  const { groups: found, omitted } = read({ groups: claim }, { groups: 'groups' })
  return [found, omitted.map(({ attribute, reason }) => `${attribute} ${reason}`)] as const
}
const listed = (...values: string[]) => [{ kind: 'listed', values }, []]

describe('Where a value is found', () => {
  const oid = 'urn:oid:0.9.2342.19200300.100.1.3'
  const uri = 'http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress'
  const nested = {
    realm: { roles: ['a', 'b'], 'x/y': 'slash', 'm~n': 'tilde', '~1': 'both', '': 'blank' },
    list: [{ value: 'zero' }, { value: 'one' }],
  }

  test.each<[string, Record<string, unknown>, string, string | undefined]>([
    ['a plain name', { displayName: 'Ann' }, 'displayName', 'Ann'],
    ['a plain name in another case', { displayname: 'Ann' }, 'displayName', undefined],
    ['a name with dots is no path', { a: { b: 'Ann' } }, 'a.b', undefined],
    ['an OID', { [oid]: ['ann@o.example'] }, oid, 'ann@o.example'],
    ['an OID that begins like another', { [`${oid}.1`]: ['x'] }, oid, undefined],
    ['a URI, which is no pointer', { [uri]: ['ann@o.example'] }, uri, 'ann@o.example'],
    ['a name that begins with a slash stands before a pointer', { '/a': 'name', a: 'pointer' }, '/a', 'name'],
    ['a pointer (RFC 6901 §4)', { a: { b: 'Ann' } }, '/a/b', 'Ann'],
    ['a pointer into a list', nested, '/list/1/value', 'one'],
    ['~1 is a slash', nested, '/realm/x~1y', 'slash'],
    ['~0 is a tilde', nested, '/realm/m~0n', 'tilde'],
    ['~01 is ~1, not a slash', nested, '/realm/~01', 'both'],
    ['an empty step is a name', nested, '/realm/', 'blank'],
    ['a pointer past the end', nested, '/realm/roles/0/x', undefined],
    ['a pointer into a text', { a: 'text' }, '/a/length', undefined],
    ['a pointer to what every object has', nested, '/realm/constructor/name', undefined],
    ['a pointer to what every list has', nested, '/list/length', undefined],
    ['a pointer to the prototype', nested, '/__proto__/x', undefined],
  ])('%s', (_, claims, from, value) => {
    expect(name(claims, from)).toBe(value)
  })

  test('a claim that is called __proto__ can be named, and changes nothing else', () => {
    const claims = JSON.parse('{"__proto__":{"name":"odd"},"email":"ann@o.example"}')
    expect(name(claims, '/__proto__/name')).toBe('odd')
    expect(name(claims, 'name')).toBeUndefined()
  })

  test.each<[string, unknown]>([
    ['is missing', undefined],
    ['is null', null],
    ['is empty', ''],
    ['is blank', '  '],
    ['is an empty list', []],
    ['is a list of empty texts', ['', ' ', null]],
    ['is no text', { nested: 'x' }],
  ])('of several sources the next is asked where one %s', (_, first) => {
    expect(name({ first, second: 'Ann' }, ['first', 'second'])).toBe('Ann')
  })

  test('of several sources the first counts', () => {
    expect(name({ first: 'Ann', second: 'Bob' }, ['first', 'second'])).toBe('Ann')
    expect(name({ first: 'Ann', second: 'Bob' }, ['second', 'first'])).toBe('Bob')
  })
})

describe('What an attribute takes', () => {
  test.each<[string, unknown, string | undefined]>([
    ['the first of several texts', ['Ann', 'Anna'], 'Ann'],
    ['a text without the space around it', '  Ann ', 'Ann'],
    ['a number, written out', 42, '42'],
    ['a boolean, written out', false, 'false'],
    ['the text beside an object', [{ a: 1 }, 'Ann'], 'Ann'],
  ])('%s', (_, claim, value) => {
    expect(name({ claim }, 'claim')).toBe(value)
  })

  test.each<[string, unknown]>([
    ['an object', { a: 1 }],
    ['a list in a list', [['Ann']]],
  ])('%s is left out, and that is told', (_, claim) => {
    const { profile, omitted } = read({ claim }, { name: 'claim' })
    expect([{ ...profile }, omitted]).toEqual([{}, [{ attribute: 'name', reason: 'not_text' }]])
  })

  test('a text of 1 MB is left out whole, and that is told', () => {
    const { profile, omitted } = read({ claim: 'x'.repeat(1_000_000) }, { name: 'claim' })
    expect([{ ...profile }, omitted]).toEqual([{}, [{ attribute: 'name', reason: 'too_long' }]])
  })

  test.each([
    [2048, undefined],
    [10, 10],
  ])('at most %i characters', (longest, maxLength) => {
    const rule = { from: 'claim', ...(maxLength && { maxLength }) }
    expect(name({ claim: 'x'.repeat(longest) }, rule)).toHaveLength(longest)
    expect(name({ claim: 'x'.repeat(longest + 1) }, rule)).toBeUndefined()
  })

  test('nothing that no mapping names', () => {
    const claims = { isAdmin: true, status: 'active', verifiedEmail: 'x@o.example', name: 'Ann' }
    expect({ ...read(claims, { name: 'name' }).profile }).toEqual({ name: 'Ann' })
  })
})

describe('Subject and address', () => {
  test('the same value twice is one; two different ones are refused', () => {
    expect(read({ email: ['ann@o.example', 'ann@o.example'] }).email).toBe('ann@o.example')
    expect(() => read({ email: ['ann@o.example', 'bob@o.example'] })).toThrow(JitError)
    expect(() => read({ uid: ['1', '2'] }, { subject: 'uid' })).toThrow(/"subject" holds 2 different/)
  })

  test('an address that is no text is absent, and that is told', () => {
    const { email, omitted } = read({ email: { address: 'ann@o.example' } })
    expect([email, omitted]).toEqual([undefined, [{ attribute: 'email', reason: 'not_text' }]])
  })

  test.each([[undefined], [null], [''], [[]], [{}]])('a mapped subject that is %j: refused', (uid) => {
    expect(() => read({ uid }, { subject: ['uid', 'also'] })).toThrow(
      /attributes\.subject: the answer has no text in uid, also/,
    )
    expect(read({ uid, also: 's' }, { subject: ['uid', 'also'] }).subject).toBe('s')
  })
})

describe('Groups: listed, absent and overflow are different', () => {
  test.each<[string, unknown, readonly unknown[]]>([
    ['a list', ['a', 'b'], listed('a', 'b')],
    ['one text', 'a', listed('a')],
    ['a list without anything', [], listed()],
    ['each once', ['a', 'b', 'a'], listed('a', 'b')],
    ['numbers, written out', [1, 2], listed('1', '2')],
    ['without blank ones', ['', 'a', ' '], listed('a')],
    ['by whatever name', ['__proto__', 'toString'], listed('__proto__', 'toString')],
    ['absent', undefined, [{ kind: 'absent' }, []]],
    ['null', null, [{ kind: 'absent' }, []]],
    ['an empty text', '', [{ kind: 'absent' }, []]],
    ['10,000 of them', numbered(10_000), listed(...numbered(10_000))],
    ['10,001 of them', numbered(10_001), [{ kind: 'overflow' }, ['groups too_many']]],
    ['1 MB in one', ['x'.repeat(1_000_000)], [{ kind: 'overflow' }, ['groups too_long']]],
    [
      'more than 1 MB in all',
      numbered(1_001).map((n) => n.padEnd(1_000)),
      [{ kind: 'overflow' }, ['groups too_long']],
    ],
  ])('%s', (_, claim, expected) => {
    expect(groups(claim)).toEqual(expected)
  })

  test.each<[string, unknown]>([
    ['an object', { admins: true }],
    ['a list of objects', [{ id: 1, name: 'admins' }]],
    ['a list in a list', [['admins']]],
    ['one object among texts', ['admins', {}]],
  ])('%s cannot be read, so what is missing does not look like leaving: overflow', (_, claim) => {
    expect(groups(claim)).toEqual([{ kind: 'overflow' }, ['groups not_text']])
  })

  test('no source, no groups', () => {
    expect(read({ groups: ['a'] }).groups).toEqual({ kind: 'absent' })
  })
})

describe('What is not the answer’s own', () => {
  test.each(['toString', 'constructor', '/realm/toString', '/realm/constructor', '/realm/__proto__'])(
    'P02: "%s" of every object is no claim, not even one that is left out',
    (source) => {
      const { profile, groups: found, omitted } = read({ realm: {} }, { name: source, groups: source })
      expect([{ ...profile }, found, omitted]).toEqual([{}, { kind: 'absent' }, []])
    },
  )
})

describe('What an identity may be made of', () => {
  type Input = Parameters<typeof assertIdentity>[0]
  const make = (facts: Partial<Input>) =>
    assertIdentity({
      source: 'connection:c',
      sourceVersion: '1',
      issuer: 'https://idp.example',
      subject: 's',
      at: 0,
      ...facts,
    })
  const attributes = (count: number) => Object.fromEntries(numbered(count).map((key) => [key, 'x']))
  const inGroups = (...values: string[]): Partial<Input> => ({ groups: { kind: 'listed', values } })

  test.each<[string, Partial<Input>, Partial<Input>, RegExp]>([
    ['L25: a subject', { subject: 's' }, { subject: ' \t' }, /subject is empty/],
    ['L25: an issuer', { issuer: 'i' }, { issuer: '' }, /issuer is empty/],
    ['P04: a subject', { subject: 's'.repeat(1024) }, { subject: 's'.repeat(1025) }, /longer than 1024/],
    ['P05: a subject', { subject: 'a b' }, { subject: 'a\u0000b' }, /control characters/],
    ['P05: an issuer', { issuer: 'a\u{1f600}' }, { issuer: 'a\ud83d' }, /control characters/],
    ['L20: an address', { email: 'ann@o.example' }, { email: 'ann@o.example.' }, /malformed/],
    ['L15: a domain', { email: 'ann@KIT.example' }, { email: 'ann@\u212aIT.example' }, /plain ASCII/],
    ['P04: attributes', { profile: attributes(64) }, { profile: attributes(65) }, /more than 64/],
    ['P04: an attribute', { profile: { a: 'x'.repeat(2048) } }, { profile: { a: 'x'.repeat(2049) } }, /2048/],
    ['P04: groups', inGroups(...numbered(10_000)), inGroups(...numbered(10_001)), /more than 10000/],
    ['P04: a group', inGroups('g'.repeat(1024)), inGroups('g'.repeat(1025)), /longer than 1024/],
  ])('%s that fits, and the nearest that does not', (_, fits, exceeds, why) => {
    expect(make(fits).subject).toBe(fits.subject ?? 's')
    expect(() => make(exceeds)).toThrow(
      expect.objectContaining({ code: 'identity_invalid', message: expect.stringMatching(why) }),
    )
  })
})

function numbered(count: number): string[] {
  return Array.from({ length: count }, (_, n) => `g${n}`)
}
