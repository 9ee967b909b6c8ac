import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { nextHopOf, parseAddress, readRoutes } from '../../../bench/data/routes.ts'
import { readAddresses } from '../../../bench/fib/traces.ts'
import { ipWords } from '../../../dataplane/addresses.ts'

const folder = mkdtempSync(join(tmpdir(), 'hawser-test-'))
afterAll(() => rmSync(folder, { recursive: true }))
const path = join(folder, 'data')

describe('addresses', () => {
  test.each([
    '0.0.0.0',
    '255.255.255.255',
    '192.0.2.1',
    '::',
    '::1',
    '1::',
    '2001:db8::1',
    '2001:db8:0:1:2:3:4:5',
    '::ffff:192.0.2.1',
    'fe80::a:b',
  ])('%s is read as everywhere else', text => {
    expect(parseAddress(text)).toEqual([...ipWords(text)])
  })

  test.each([
    '',
    '1.2.3',
    '1.2.3.4.5',
    '256.0.0.1',
    '1.2.3.x',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '12345::',
    'g::',
    '1:2:3:4:5:6:7::8',
    '::1.2.3.256',
  ])('%j is none', text => {
    expect(parseAddress(text)).toBeUndefined()
  })
})

describe('files of routes', () => {
  test('both families, with and without next hops; refused lines by number and reason', () => {
    writeFileSync(
      path,
      [
        '# routes',
        '10.0.0.0/8',
        '10.1.0.0/16 7',
        '2001:db8::/32\t9',
        '',
        '10.0.0.1/8',
        '10.1.0.0/16 8',
        '10.2.0.0/33',
        'nonsense',
        '10.3.0.0/16 0',
        '10.4.0.0/16 1 2',
        '0.0.0.0/0',
        '::/0',
      ].join('\r\n'),
    )
    const { tables, intake } = readRoutes(path)
    expect(tables[4]).toEqual({
      family: 4,
      count: 3,
      addresses: Uint32Array.of(0x0a00_0000, 0x0a01_0000, 0),
      lengths: Uint8Array.of(8, 16, 0),
      nextHops: Uint16Array.of(nextHopOf(0), 7, nextHopOf(2)),
    })
    expect(tables[6].count).toBe(2)
    expect([...tables[6].lengths]).toEqual([32, 0])
    expect(tables[6].nextHops[0]).toBe(9)
    expect(intake.taken).toBe(5)
    expect(intake.describe()).toEqual([
      `${path}: 5 lines taken, 6 refused`,
      '  line 6: "10.0.0.1/8": bits behind the prefix are set',
      '  line 7: "10.1.0.0/16 8": the prefix is there already',
      '  line 8: "10.2.0.0/33": no prefix',
      '  line 9: "nonsense": no prefix',
      '  line 10: "10.3.0.0/16 0": the next hop is not in 1..32767 (MAX_NEXT_HOP_ID)',
      '  line 11: "10.4.0.0/16 1 2": more than a prefix and a next hop',
    ])
  })
})

test('files of addresses and of headers', () => {
  writeFileSync(path, '10.0.0.1\n2001:db8::1\n167772161\t3232235777\t80\t443\t6\t0\t1\n1 2 3\nx\n')
  const { addresses, intake } = readAddresses(path)
  expect([...addresses[4]]).toEqual([0x0a00_0001, 0xc0a8_0101])
  expect([...addresses[6]]).toEqual([0x2001_0db8, 0, 0, 1])
  expect(intake.taken).toBe(3)
  expect(intake.told).toEqual([
    'line 4: "1 2 3": neither an address nor a header',
    'line 5: "x": neither an address nor a header',
  ])
})
