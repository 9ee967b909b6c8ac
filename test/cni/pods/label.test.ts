/** What interfaces say of themselves, and what anybody may write there. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Labelled, labelOf, ourLabels, parseLabel } from '../../../cni/pods/label.ts'

const POD: Labelled = {
  network: 'hawser',
  containerId: 'f'.repeat(64),
  ifname: 'eth0',
  ip4: '10.244.1.2',
  ip6: 'fd44::2',
}

test('a label says whose the interface is, on which node, and its addresses', () => {
  const label = labelOf(POD)
  expect(label).toMatch(/^hawser\/\d+\/\/hawser\/f{64}\/eth0\/10\.244\.1\.2\/fd44::2$/)
  expect(label?.startsWith(ourLabels())).toBe(true)
  expect(parseLabel(label!)).toEqual(POD)
})

test('what was written is read as it was', () => {
  const name = fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,79}$/)
  const pods = fc.record(
    {
      network: name,
      containerId: name,
      ifname: fc.stringMatching(/^[a-zé][a-z0-9]{0,6}$/),
      ip4: fc.constantFrom('10.244.1.2', '192.0.2.254'),
      ip6: fc.constantFrom('fd44::2', '2001:db8::1:0:0:1'),
      overlay: name,
    },
    { requiredKeys: ['network', 'containerId', 'ifname', 'ip4'] },
  )
  fc.assert(
    fc.property(pods, pod => {
      const label = labelOf(pod)
      // 255 bytes and no more.
      if (label === undefined) return
      expect(parseLabel(label)).toEqual(pod)
    }),
  )
})

test('one that is too long for an alias is not written', () => {
  const network = (length: number) => ({ ...POD, network: 'n'.repeat(length) })
  const longest = 255 - Buffer.byteLength(labelOf(network(1))!) + 1
  expect(Buffer.byteLength(labelOf(network(longest))!)).toBe(255)
  expect(labelOf(network(longest + 1))).toBeUndefined()
})

test.each([
  ['hawser/1//n/c/eth0/10.0.0.2', 'not as labels are written'],
  ['hawser/1//n/c/eth0/10.0.0.2//', 'not as labels are written'],
  ['hawser/1//../c/eth0/10.0.0.2/', 'not a name'],
  ['hawser/1//n//eth0/10.0.0.2/', 'not a name'],
  ['hawser/1//n/c;d/eth0/10.0.0.2/', 'not a name'],
  ['hawser/1/a b/n/c/eth0/10.0.0.2/', 'not a name'],
  [`hawser/1//n/${'c'.repeat(201)}/eth0/10.0.0.2/`, 'longer than'],
  ['hawser/1//n/c/../10.0.0.2/', 'a folder'],
  ['hawser/1//n/c//10.0.0.2/', 'not 1 .. 15 bytes'],
  ['hawser/1//n/c/eth\u0000/10.0.0.2/', 'white space'],
  ['hawser/1//n/c/eth0//', 'no address'],
  ['hawser/1//n/c/eth0/10.0.0.256/', 'no IPv4 address'],
  ['hawser/1//n/c/eth0/010.0.0.2/', 'no IPv4 address'],
  ['hawser/1//n/c/eth0/fd44::2/', 'no IPv4 address'],
  ['hawser/1//n/c/eth0//FD44::2', 'no IPv6 address'],
  ['hawser/1//n/c/eth0//fd44:0::2', 'no IPv6 address'],
  ['hawser/1//n/c/eth0//10.0.0.2', 'no IPv6 address'],
])('%j is none', (text, problem) => {
  expect((parseLabel(text) as { problem?: string }).problem).toContain(problem)
})
