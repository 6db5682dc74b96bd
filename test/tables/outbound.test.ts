import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { rangeOf } from '../../lib/outbound.js'
import { guard } from '../rig/outbound.js'

// First and last address of every block that IANA's special-purpose registries set aside (RFC 6890 and after), and
// of multicast; the addresses beside them are public unless they are in another row.
const blocks: [range: string, first: string, last: string, before: string | null, after: string | null][] = [
  ['unspecified', '0.0.0.0', '0.255.255.255', null, '1.0.0.0'],
  ['private', '10.0.0.0', '10.255.255.255', '9.255.255.255', '11.0.0.0'],
  ['carrierGradeNat', '100.64.0.0', '100.127.255.255', '100.63.255.255', '100.128.0.0'],
  ['loopback', '127.0.0.0', '127.255.255.255', '126.255.255.255', '128.0.0.0'],
  ['linkLocal', '169.254.0.0', '169.254.255.255', '169.253.255.255', '169.255.0.0'],
  ['private', '172.16.0.0', '172.31.255.255', '172.15.255.255', '172.32.0.0'],
  ['reserved', '192.0.0.0', '192.0.0.255', '191.255.255.255', '192.0.1.0'],
  ['reserved', '192.0.2.0', '192.0.2.255', '192.0.1.255', '192.0.3.0'],
  ['as112', '192.31.196.0', '192.31.196.255', '192.31.195.255', '192.31.197.0'],
  ['amt', '192.52.193.0', '192.52.193.255', '192.52.192.255', '192.52.194.0'],
  ['reserved', '192.88.99.0', '192.88.99.255', '192.88.98.255', '192.88.100.0'],
  ['private', '192.168.0.0', '192.168.255.255', '192.167.255.255', '192.169.0.0'],
  ['as112', '192.175.48.0', '192.175.48.255', '192.175.47.255', '192.175.49.0'],
  ['reserved', '198.18.0.0', '198.19.255.255', '198.17.255.255', '198.20.0.0'],
  ['reserved', '198.51.100.0', '198.51.100.255', '198.51.99.255', '198.51.101.0'],
  ['reserved', '203.0.113.0', '203.0.113.255', '203.0.112.255', '203.0.114.0'],
  ['multicast', '224.0.0.0', '239.255.255.255', '223.255.255.255', null],
  ['reserved', '240.0.0.0', '255.255.255.254', null, null],
  ['broadcast', '255.255.255.255', '255.255.255.255', null, null],
  ['platform', '168.63.129.16', '168.63.129.16', '168.63.129.15', '168.63.129.17'],
  ['unspecified', '::', '::', null, null],
  ['loopback', '::1', '::1', null, null],
  ['unassigned', '::2', '::fffe:ffff:ffff', null, null],
  ['rfc6145', '::ffff:0:0:0', '::ffff:0:ffff:ffff', null, null],
  ['rfc6052', '64:ff9b:1::', '64:ff9b:1:ffff:ffff:ffff:ffff:ffff', null, null],
  ['discard', '100::', '100::ffff:ffff:ffff:ffff', null, null],
  ['unassigned', '200::', '1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', null, null],
  ['teredo', '2001::', '2001:0:ffff:ffff:ffff:ffff:ffff:ffff', '2000:ffff::', null],
  ['reserved', '2001:1::', '2001:1:ffff:ffff:ffff:ffff:ffff:ffff', null, null],
  ['benchmarking', '2001:2::', '2001:2:0:ffff:ffff:ffff:ffff:ffff', null, null],
  ['reserved', '2001:100::', '2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff', null, '2001:200::'],
  ['reserved', '2001:db8::', '2001:db8:ffff:ffff:ffff:ffff:ffff:ffff', '2001:db7::', '2001:db9::'],
  ['6to4', '2002::', '2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff', '2001:ffff::', '2003::'],
  ['reserved', '3fff::', '3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff', '3ffe::', '3fff:1000::'],
  ['unassigned', '4000::', '5eff::', '3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', null],
  ['segmentRouting', '5f00::', '5f00:ffff::', null, null],
  ['uniqueLocal', 'fc00::', 'fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', null, null],
  ['linkLocal', 'fe80::', 'febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff', null, null],
  ['deprecatedSiteLocal', 'fec0::', 'feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', null, null],
  ['multicast', 'ff00::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', null, null],
]

describe('which addresses are public', () => {
  test.each(blocks)('%s: %s to %s', (range, first, last, before, after) => {
    expect([rangeOf(first), rangeOf(last)]).toEqual([range, range])
    for (const beside of [before, after]) if (beside !== null) expect(rangeOf(beside), beside).toBe('public')
  })

  test.each([
    ['the metadata service of AWS, Azure, Google', '169.254.169.254', 'linkLocal'],
    ['the metadata service of AWS by IPv6', 'fd00:ec2::254', 'uniqueLocal'],
    ['the metadata service of Alibaba', '100.100.100.200', 'carrierGradeNat'],
    ['the metadata service of Oracle', '192.0.0.192', 'reserved'],
    ['a link-local address with its zone', 'fe80::1%eth0', 'linkLocal'],
    ['this machine, mapped', '::ffff:127.0.0.1', 'loopback'],
    ['this machine, mapped, in hexadecimal', '::ffff:7f00:1', 'loopback'],
    ['a private address, mapped', '::ffff:10.0.0.5', 'private'],
    ['a public address, mapped', '::ffff:8.8.8.8', 'public'],
    ['this machine as compatible IPv6', '::127.0.0.1', 'unassigned'],
    ['a public address as compatible IPv6', '::8.8.8.8', 'unassigned'],
    ['this machine with a zone', '::1%lo', 'loopback'],
    ['this machine of a NAT64 gateway', '64:ff9b::127.0.0.1', 'loopback behind NAT64'],
    ['a private address by NAT64', '64:ff9b::a00:5', 'private behind NAT64'],
    ['a public address by NAT64', '64:ff9b::8.8.8.8', 'public'],
    ['a public resolver', '8.8.8.8', 'public'],
    ['a public resolver by IPv6', '2001:4860:4860::8888', 'public'],
    ['a name', 'localhost', 'no address'],
    ['an address that only some parsers read', '0x7f.1', 'no address'],
    ['nothing', '', 'no address'],
  ])('%s, %s: %s', (_name, address, range) => {
    expect(rangeOf(address)).toBe(range)
  })

  test('any IPv4 address inside of IPv6 is what it is by itself', () => {
    const inner = fc.ipV4()
    fc.assert(fc.property(inner, (address) => rangeOf(`::ffff:${address}`) === rangeOf(address)))
    const behind = (range: string) => (range === 'public' ? range : `${range} behind NAT64`)
    fc.assert(fc.property(inner, (address) => rangeOf(`64:ff9b::${address}`) === behind(rangeOf(address))))
  })
})

describe('which URLs are refused without asking the network', () => {
  const { refused, refusedPlainly } = guard()

  // The URL standard reads all of these as 127.0.0.1.
  test.each([
    '127.0.0.1',
    '2130706433',
    '0x7f000001',
    '017700000001',
    '127.1',
    '0x7f.0.1',
    '0177.0.0.01',
    '127.0.0.1.',
    '１２７.０.０.１',
    '127。0。0。1',
    '%31%32%37.0.0.1',
  ])('https://%s is this machine', (host) => {
    expect(refused(`https://${host}/`)).toMatch(/^127\.0\.0\.1 is no public address \(loopback\)/)
    expect(refusedPlainly(`http://${host}/`)).toBeNull()
  })

  test.each([
    ['[::1]', '::1', 'loopback'],
    ['[0:0:0:0:0:0:0:1]', '::1', 'loopback'],
    ['[::ffff:127.0.0.1]', '127.0.0.1', 'loopback'],
    ['[::ffff:7f00:1]', '127.0.0.1', 'loopback'],
    ['[::ffff:a9fe:a9fe]', '169.254.169.254', 'linkLocal'],
    ['[64:ff9b::a00:1]', '64:ff9b::a00:1', 'private behind NAT64'],
    ['[fd00::1]', 'fd00::1', 'uniqueLocal'],
    ['[fe80::1]', 'fe80::1', 'linkLocal'],
    ['[::]', '::', 'unspecified'],
    ['0', '0.0.0.0', 'unspecified'],
    ['10.1', '10.0.0.1', 'private'],
    ['3232235777', '192.168.1.1', 'private'],
  ])('https://%s is %s (%s), and the way to allow it is said', (host, address, range) => {
    const problem = refused(`https://${host}/`)!
    expect(problem).toContain(`${address} is no public address (${range})`)
    const allow = JSON.parse(/allow: (\[.*?\])/.exec(problem)![1]!)
    expect(guard({ allow }).refused(`https://${host}/`)).toBeNull()
  })

  test.each([
    ['https://8.8.8.8/', null],
    ['https://[2606:4700::1111]/', null],
    ['https://idp.example/', null],
    ['http://idp.example/', /plain http/],
    ['http://8.8.8.8/', /plain http/],
    ['ftp://idp.example/', /only http/],
    ['file:///etc/passwd', /only http/],
    ['data:application/json,{}', /only http/],
    ['blob:https://idp.example/x', /only http/],
    ['https://someone:secret@idp.example/', /user name or password/],
    ['https://someone@idp.example/', /user name or password/],
    ['/.well-known/openid-configuration', /not a URL/],
    ['https://[fe80::1%25eth0]/', /not a URL/],
    ['https://256.256.256.256/', /not a URL/],
  ])('%s: %s', (url, expected) => {
    if (expected === null) expect(refused(url)).toBeNull()
    else expect(refused(url)).toMatch(expected)
  })

  test('an entry for developing may use plain http and this machine, and no other address', () => {
    expect(refusedPlainly('http://localhost:8080/')).toBeNull()
    expect(refusedPlainly('http://[::1]:8080/')).toBeNull()
    expect(refusedPlainly('http://idp.example/')).toBeNull()
    for (const host of [
      '10.0.0.1',
      '192.168.1.1',
      '169.254.169.254',
      '0.0.0.0',
      '[fd00::1]',
      '[64:ff9b::127.0.0.1]',
    ])
      expect(refusedPlainly(`http://${host}/`)).toMatch(/is no public address/)
  })

  test.each([
    ['10.0.0.0/8', '10.255.255.255', '11.0.0.0', null],
    ['10.0.0.0/9', '10.127.255.255', '10.128.0.0', 'private'],
    ['10.0.0.0/8', '[::ffff:10.1.2.3]', '[::ffff:192.168.0.1]', 'private'],
    ['10.1.2.3', '10.1.2.3', '10.1.2.4', 'private'],
    ['127.0.0.1', '127.0.0.1', '[::1]', 'loopback'],
    ['fd00:1::/32', '[fd00:1::7]', '[fd00:2::7]', 'uniqueLocal'],
    ['fd00:1::7', '[fd00:1::7]', '[fd00:1::8]', 'uniqueLocal'],
    ['64:ff9b::/96', '[64:ff9b::a00:1]', '10.0.0.1', 'private'],
    ['0.0.0.0/0', '169.254.169.254', '[fe80::1]', 'linkLocal'],
  ])('allow %s takes %s, and of %s nothing more', (allowed, inside, outside, range) => {
    const { refused } = guard({ allow: [allowed] })
    expect(refused(`https://${inside}/`)).toBeNull()
    if (range === null) expect(refused(`https://${outside}/`)).toBeNull()
    else expect(refused(`https://${outside}/`)).toContain(`(${range})`)
  })
})
