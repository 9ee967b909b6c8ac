/** Policies and labels that change under pods. */
import { type Case, networkPolicy, no, tcp, yes } from '../world.ts'
import { DENY_ALL } from './ingress.ts'

const A = { matchLabels: { pod: 'a' } }
const toA = (...from: object[]) =>
  networkPolicy('x', 'to-a', { podSelector: A, ingress: [{ from }] })
const changing = (...ingress: object[]) =>
  networkPolicy('x', 'changing', { podSelector: {}, policyTypes: ['Ingress'], ingress })
const fromUpdated = toA({ namespaceSelector: { matchLabels: { ns2: 'updated' } } })
const fromUpdatedPod = toA({ podSelector: { matchLabels: { pod: 'b', pod2: 'updated' } } })
const isolated = networkPolicy('x', 'isolated', {
  podSelector: { matchLabels: { target: 'isolated' } },
  policyTypes: ['Ingress'],
})
const outOfA = networkPolicy('x', 'out-of-a', {
  ...{ podSelector: A, policyTypes: ['Egress'], egress: [{}] },
})
const nothingIntoA = networkPolicy('x', 'nothing-into-a', {
  ...{ podSelector: A, policyTypes: ['Ingress'] },
})

export const CHANGES: readonly Case[] = [
  {
    name: 'a policy that let everything in lets nothing in',
    steps: [
      { policies: () => [changing({})], tables: [tcp(81)] },
      { policies: () => [changing()], tables: [tcp(81, no('*', 'x/*'))] },
    ],
  },
  {
    name: 'a namespace gets the label that is let in',
    steps: [
      { policies: () => [fromUpdated], tables: [tcp(80, no('*', 'x/a'))] },
      {
        policies: () => [fromUpdated],
        labels: { y: { ns2: 'updated' } },
        tables: [tcp(80, no('*', 'x/a'), yes('y/*', '*'))],
      },
    ],
  },
  {
    name: 'a pod gets the label that is let in',
    steps: [
      { policies: () => [fromUpdatedPod], tables: [tcp(80, no('*', 'x/a'))] },
      {
        policies: () => [fromUpdatedPod],
        labels: { 'x/b': { pod2: 'updated' } },
        tables: [tcp(80, no('*', 'x/a'), yes('x/b', 'x/a'))],
      },
    ],
  },
  {
    name: 'a pod gets the label that isolates',
    steps: [
      { policies: () => [isolated], tables: [tcp(80)] },
      {
        policies: () => [isolated],
        labels: { 'x/a': { target: 'isolated' } },
        tables: [tcp(80, no('*', 'x/a'))],
      },
    ],
  },
  {
    name: 'a policy is deleted',
    steps: [
      { policies: () => [DENY_ALL], tables: [tcp(80, no('x/*', '*'), no('*', 'x/*'))] },
      { policies: () => [], tables: [tcp(80)] },
    ],
  },
  {
    name: 'in and out of a pod by policies of their own',
    steps: [
      { policies: () => [outOfA], tables: [tcp(80)] },
      { policies: () => [outOfA, nothingIntoA], tables: [tcp(80, no('*', 'x/a'))] },
    ],
  },
]
